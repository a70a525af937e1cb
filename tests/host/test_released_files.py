"""Files with the structure of the released ones: equal results of nodes and command, and conversion on the canvas."""

import importlib.util
from pathlib import Path

import comfy_host
import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.checkpoint import load_transformer, read_checkpoint
from varestorer_core.lora.factors import join_adapter

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
PAIRS = {
    "infinity_2b_reg.pth": "infinity_vae_d32reg.pth",
    "infinity_125M_256x256.pth": "infinity_vae_d16.pth",
}
TRANSFORMER_FOLDER, VAE_FOLDER = "diffusion_models", "vae"


def _load(path: Path):
    spec = importlib.util.spec_from_file_location(f"varestorer_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RELEASED = _load(ROOT / "tests" / "released.py")


@pytest.fixture(scope="module")
def released(host):
    """The host with small files under the names of the released ones, for as long as these tests run."""
    places = [host.base / "models" / folder for folder in (TRANSFORMER_FOLDER, VAE_FOLDER)]
    RELEASED.write_released(*places)
    yield host
    for place, names in zip(places, (PAIRS, PAIRS.values()), strict=True):
        for name in names:
            (place / name).unlink()


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def whole(host, base: str, vae: str) -> dict:
    prompt = host.whole(upscale=1.0)
    prompt["model"]["inputs"]["model_name"] = base
    prompt["vae"]["inputs"]["vae_name"] = vae
    return prompt


def pixels(host, base: str, vae: str) -> np.ndarray:
    """Return a restoration, (H, W, 3) in 8 bits, cut as Save Image and the command cut them."""
    prompt = whole(host, base, vae)
    return (host.arrays(host.run(prompt))["keep"][0] * 255).astype(np.uint8)


def convert(host, file: str, **settings) -> tuple[str, list[str]]:
    """Convert a file on the canvas; return what was written, and the notice on the node."""
    settings = {"part": "model", "dtype": "keep", **settings}
    prompt = {
        "convert": node("VARestorerConvertModel", file=file, **settings),
        "text": node("PreviewAny", source=["convert", 0]),
    }
    outputs = host.run(prompt)["outputs"]
    return outputs["text"]["text"][0], outputs["convert"]["varestorer_notice"]


def write_with_adapter(path: Path, base: Path) -> None:
    """Write a transformer with an adapter inside that changes what it restores."""
    state = load_transformer(*read_checkpoint(base)).state_dict()
    generator = torch.Generator().manual_seed(0)
    adapter = {}
    for owner in ("blocks.0.sa.proj", "blocks.1.sa.proj"):
        out, into = state[f"{owner}.weight"].shape
        down = torch.randn(3, into, generator=generator) * into**-0.5
        adapter[f"{owner}.lora_down.weight"] = down
        adapter[f"{owner}.lora_up.weight"] = torch.randn(out, 3, generator=generator) * 0.5
    torch.save(join_adapter(state, adapter), path)


@pytest.mark.parametrize(("base", "vae"), PAIRS.items())
def test_nodes_and_command_restore_alike(released, tmp_path, base, vae):
    found = pixels(released, base, vae)
    options = ["--upscale", 1, "--detail", 0, "--overlap", 64, "--color-match", "none"]
    options += ["--model", released.model_file(TRANSFORMER_FOLDER, base)]
    options += ["--vae", released.model_file(VAE_FOLDER, vae)]
    target = tmp_path / "out.png"
    released.command("restore", comfy_host.PHOTO, "-o", target, "--device", "cpu", *options)
    expected = np.asarray(Image.open(tmp_path / "out.png").convert("RGB"))
    assert expected.std() > 10, "the picture is flat, so nothing is compared"
    assert np.array_equal(found, expected)


def test_a_converted_file_restores_the_same_and_stands_beside_the_original(released):
    base, vae = next(iter(PAIRS.items()))
    written = []
    try:
        for folder, name in ((TRANSFORMER_FOLDER, base), (VAE_FOLDER, vae)):
            text, notice = convert(released, f"{folder}/{name}")
            assert text == f"{folder}/{Path(name).stem}.safetensors"
            assert notice == [f"Written: models/{text}"]
            written.append(released.base / "models" / text)
            assert written[-1].is_file()
        loader = released.get("/object_info/VARestorerLoadModel")["VARestorerLoadModel"]
        assert written[0].name in loader["input"]["required"]["model_name"][1]["options"]
        before = pixels(released, base, vae)
        assert np.array_equal(pixels(released, *(path.name for path in written)), before)
        with pytest.raises(type(released).Error, match="nothing was written"):
            convert(released, f"{TRANSFORMER_FOLDER}/{base}", dtype="bf16")
    finally:
        for path in written:
            path.unlink()


def test_a_converted_file_that_was_deleted_is_written_again(released):
    """And one that is there is not: the answer comes from the cache."""
    file, path = f"{VAE_FOLDER}/{next(iter(PAIRS.values()))}", None
    try:
        for _ in range(2):
            text, _ = convert(released, file)
            path = released.base / "models" / text
            written = path.stat().st_mtime_ns
            assert convert(released, file)[0] == text
            assert path.stat().st_mtime_ns == written
            path.unlink()
    finally:
        if path:
            path.unlink(missing_ok=True)


def test_a_missing_adapter_that_the_pack_writes_says_how(released):
    prompt = whole(released, *next(iter(PAIRS.items())))
    inputs = {
        "model": ["model", 0],
        "adapter_name": "varestorer_adapter.safetensors",
        "strength": 1.0,
    }
    prompt["adapter"] = node("VARestorerLoadAdapter", **inputs)
    prompt["restore"]["inputs"]["model"] = ["adapter", 0]
    with pytest.raises(type(released).Error) as caught:
        released.queue(prompt)
    (message,) = caught.value.messages
    assert "is not in models/loras. VARestorer Convert Model writes it" in message
    assert "out of varestorer.pth" in message
    assert "diffusion_models" not in message


def test_the_adapter_is_taken_out_of_a_whole_model_by_both_nodes(released):
    """Load VARestorer Adapter reads it there; Convert Model writes it to models/loras."""
    path = released.model_file(TRANSFORMER_FOLDER, "varestorer.pth")
    base, vae = next(iter(PAIRS.items()))
    write_with_adapter(path, released.model_file(TRANSFORMER_FOLDER, base))

    def adapted(adapter: str) -> np.ndarray:
        prompt = whole(released, base, vae)
        inputs = {"model": ["model", 0], "adapter_name": adapter, "strength": 1.0}
        prompt["adapter"] = node("VARestorerLoadAdapter", **inputs)
        prompt["restore"]["inputs"]["model"] = ["adapter", 0]
        return released.arrays(released.run(prompt))["keep"]

    written = None
    try:
        text, _ = convert(released, f"{TRANSFORMER_FOLDER}/{path.name}", part="adapter")
        assert text == "loras/varestorer_adapter.safetensors"
        written = released.base / "models" / text
        inside = adapted(path.name)
        assert np.array_equal(adapted(written.name), inside)
        plain = released.arrays(released.run(whole(released, base, vae)))["keep"]
        assert np.abs(plain - inside).max() > 0.01, "the adapter had no effect"
    finally:
        path.unlink()
        if written:
            written.unlink()


def test_a_file_with_nothing_to_convert_is_refused_in_a_sentence(released):
    with pytest.raises(type(released).Error, match="is not in the models folder"):
        convert(released, f"{TRANSFORMER_FOLDER}/gone.pth")
    vae = f"{VAE_FOLDER}/{PAIRS['infinity_2b_reg.pth']}"
    with pytest.raises(type(released).Error) as caught:
        convert(released, vae, part="adapter")
    (message,) = caught.value.messages
    assert "adapter" in message
    assert "\n" not in message
