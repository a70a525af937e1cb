"""Workflow files in API form, with small files instead of weights that do not come with the pack.

Used by the host tests, the browser tests and the script that draws their pictures.
"""

import json
import shutil
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "workflows"
TRANSFORMER = FOLDER.parent / "varestorer_core" / "assets" / "tiny_transformer.safetensors"
BUNDLED = "varestorer-tiny (bundled)"
BEGINNERS = "01 Restore a photo"
OFFICIAL = "02 Restore with the official model"
REGION = "03 Restore part of a photo"
MANY = "04 Restore many photos"
BIG = "05 Enlarge a lot by tiles"
UPSCALE = "06 Restore, then upscale with another model"
CHECKPOINT = "07 Restore what a checkpoint draws"
STEPS = "08 Restore step by step"
PROMPT = "09 Guide by a prompt and an adapter"
GENERATE = "10 Generate, then restore"
CAPTION = "11 Guide by a captioner"
DAMAGE = "12 Restore a dark, noisy or rainy photo"

_TEXT_ENCODER = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
_OF_THE_TEACHER = [
    "infinity_2b_reg.pth",
    "infinity_vae_d32reg.pth",
    *_TEXT_ENCODER,
    "varestorer.pth",
]
NEEDED = {
    OFFICIAL: ["general_swinir_v1.ckpt", "infinity_vae_d32reg.pth", "varestorer.pth"],
    UPSCALE: ["RealESRGAN_x4plus.safetensors"],
    CHECKPOINT: ["v1-5-pruned-emaonly-fp16.safetensors"],
    PROMPT: ["general_swinir_v1.ckpt", *_OF_THE_TEACHER],
    GENERATE: _OF_THE_TEACHER,
    CAPTION: [
        "general_swinir_v1.ckpt",
        "infinity_vae_d32reg.pth",
        *_TEXT_ENCODER,
        "varestorer.pth",
    ],
}
"""Files that a workflow asks for and that do not come with the pack; all others run as they are."""
WITHOUT_STAND_IN = {CHECKPOINT}
"""Nothing small enough for a test takes the place of a checkpoint of the host's."""
SAVED = Path(__file__).parents[1] / "host" / "saved_workflows"
"""Workflows as earlier versions of the pack saved them, by their names then."""
UI_ONLY = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}

# Weights by which the networks do something that can be looked at: the upscale model interpolates
# linearly, and adapter and text encoder are random but weak.
_WRITE = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from varestorer_core.checkpoint import identify, read_checkpoint, save_safetensors
from varestorer_core.lora.factors import join_adapter

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
generator = torch.Generator().manual_seed(0)

def noise(*shape, scale):
    return torch.randn(shape, generator=generator) * scale

# Real-ESRGAN's compact network: it adds its last convolution, shuffled, to the repeated pixels.
first = torch.zeros(3, 3, 3, 3)
first[range(3), range(3), 1, 1] = 1
axis = torch.tensor([[0.375, 0.625, 0], [0.125, 0.875, 0], [0, 0.875, 0.125], [0, 0.625, 0.375]])
kernels = torch.einsum("iy,jx->ijyx", axis, axis)
kernels[..., 1, 1] -= 1
last = torch.zeros(3, 4, 4, 3, 3, 3)
last[range(3), :, :, range(3)] = kernels
compact = {"body.0.weight": first, "body.0.bias": torch.zeros(3), "body.1.weight": torch.ones(3)}
compact |= {"body.2.weight": last.reshape(48, 3, 3, 3), "body.2.bias": torch.zeros(48)}
save_file(compact, folder / "upscale_models" / "RealESRGAN_x4plus.safetensors")

config = identify(*read_checkpoint(source)).config
adapter = {}
for block in range(config.depth):
    owner = f"blocks.{block}.sa.proj"
    adapter[f"{owner}.lora_down.weight"] = noise(2, config.embed_dim, scale=0.02)
    adapter[f"{owner}.lora_up.weight"] = noise(config.embed_dim, 2, scale=0.02)
path = folder / "loras" / "varestorer_adapter.safetensors"
save_safetensors(adapter, path, kind="adapter", config=replace(config, lora_rank=2))
# The official file has its adapter inside, as a pickle.
base = dict(read_checkpoint(source)[0])
torch.save(join_adapter(base, adapter), folder / "diffusion_models" / "varestorer.pth")

# The cleaner: the same compact network at scale 1, with nothing to add.
same = {"body.0.weight": first, "body.0.bias": torch.zeros(3), "body.1.weight": torch.ones(3)}
same |= {"body.2.weight": torch.zeros(3, 3, 3, 3), "body.2.bias": torch.zeros(3)}
torch.save(same, folder / "upscale_models" / "general_swinir_v1.ckpt")

width, hidden, heads = config.text_channels, 32, 4
block = "encoder.block.0.layer."
text = {"shared.weight": noise(32128, width, scale=0.1)}
text |= {f"{block}0.SelfAttention.{name}.weight": noise(width, width, scale=0.1) for name in "qkvo"}
text[f"{block}0.SelfAttention.relative_attention_bias.weight"] = noise(32, heads, scale=0.1)
rest = {f"{block}{layer}.layer_norm.weight": torch.ones(width) for layer in (0, 1)}
for name in ("wi_0", "wi_1"):
    rest[f"{block}1.DenseReluDense.{name}.weight"] = noise(hidden, width, scale=0.1)
rest[f"{block}1.DenseReluDense.wo.weight"] = noise(width, hidden, scale=0.1)
rest["encoder.final_layer_norm.weight"] = torch.ones(width)
for number, part in enumerate((text, rest), 1):
    save_file(part, folder / "text_encoders" / f"model-0000{number}-of-00002.safetensors")
"""


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def read_saved(name: str) -> dict:
    return json.loads((SAVED / f"{name}.json").read_text())


def to_prompt(host, workflow: dict) -> dict:
    """Turn a workflow into API form: widget values are positional, links become pairs."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in UI_ONLY:
            continue
        info = host.get(f"/object_info/{node['type']}")[node["type"]]
        values = list(node.get("widgets_values", []))
        inputs = {}
        for name in host.input_names(node["type"]):
            fields = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
            if name not in fields:  # hidden ones are filled in by the host
                continue
            kind, *options = fields[name]
            if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                if not values:  # saved before this input existed: the host fills it in
                    continue
                inputs[name] = values.pop(0)
                if options and options[0].get("control_after_generate"):
                    assert values.pop(0) in ("fixed", "increment", "decrement", "randomize")
        assert not values, f"{node['type']} has widget values that fit no input: {values}"
        for slot in node["inputs"]:
            if slot["link"] is not None:
                inputs[slot["name"]] = links[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def take_bundled(prompt: dict) -> dict:
    """Let the bundled models stand in for the official ones of a prompt in API form."""
    widgets = {"VARestorerLoadModel": "model_name", "VARestorerLoadVAE": "vae_name"}
    for node in prompt.values():
        if node["class_type"] in widgets:
            node["inputs"][widgets[node["class_type"]]] = BUNDLED
    return prompt


class StandIns:
    """Small files in the place of the weights that workflows ask for, put in and taken out."""

    def __init__(self, host):
        self.models = host.base / "models"
        self.source = host.base / "stand-ins"
        if not self.source.exists():
            for folder in ("upscale_models", "loras", "text_encoders", "diffusion_models"):
                (self.source / folder).mkdir(parents=True)
            host.python_with_core(_WRITE, TRANSFORMER, self.source)

    def put(self) -> None:
        for path in self._files():
            shutil.copy(path, self.models / path.relative_to(self.source))

    def take(self) -> None:
        for path in self._files():
            (self.models / path.relative_to(self.source)).unlink()

    def _files(self) -> list[Path]:
        return [path for path in self.source.rglob("*") if path.is_file()]
