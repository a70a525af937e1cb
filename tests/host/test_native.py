"""Our VAE and CLIP objects on the host's own nodes, and the host's on ours."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host

ASSETS = Path(__file__).parents[2] / "varestorer_core" / "assets"
BUNDLED = "varestorer-tiny (bundled)"
PROMPT = "a photograph of a dog (sharp:1.5), grass"


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def vae_round_trip(encode: dict, decode: dict) -> dict:
    return {
        "picture": node("VARestorerExampleImage", picture="original"),
        "vae": node("VARestorerLoadVAE", vae_name=BUNDLED),
        "encode": node(encode.pop("class_type"), pixels=["picture", 0], vae=["vae", 0], **encode),
        "decode": node(decode.pop("class_type"), samples=["encode", 0], vae=["vae", 0], **decode),
        "keep": node("TestKeep", image=["decode", 0]),
        "original": node("TestKeep", image=["picture", 0]),
    }


TILED = {"tile_size": 128, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}


@pytest.mark.parametrize(
    ("encode", "decode"),
    [
        ({"class_type": "VAEEncode"}, {"class_type": "VAEDecode"}),
        ({"class_type": "VAEEncodeTiled", **TILED}, {"class_type": "VAEDecodeTiled", **TILED}),
        (
            {"class_type": "VAEEncode"},
            {"class_type": "VARestorerDecodeTiled", "color_match": "none"},
        ),
    ],
    ids=["whole", "tiled", "ours"],
)
def test_vae_round_trip_through_native_nodes(host, encode, decode):
    arrays = host.arrays(host.run(vae_round_trip(dict(encode), dict(decode))))
    original, image = arrays["original"], arrays["keep"]
    height, width = (
        side // 8 * 8 for side in original.shape[1:3]
    )  # the host crops to whole tokens
    assert image.shape == (1, height, width, 3)
    assert image.min() >= 0
    assert image.max() <= 1
    top, left = (original.shape[1] - height) // 2, (original.shape[2] - width) // 2
    error = image - original[:, top : top + height, left : left + width]
    assert np.sqrt(np.mean(error**2)) < 0.1


@pytest.mark.parametrize(
    "decoder", [{"class_type": "VAEDecode"}, {"class_type": "VAEDecodeTiled", **TILED}]
)
def test_native_decode_joins_the_tiles_of_a_restoration(host, decoder):
    """To the picture that our own node makes of them, instead of a batch of tiles."""
    prompt = host.chain(upscale=2.0)
    settings = {key: value for key, value in decoder.items() if key != "class_type"}
    prompt["native"] = node(
        decoder["class_type"], samples=["restore", 0], vae=["vae", 0], **settings
    )
    prompt["joined"] = node("TestKeep", image=["native", 0])
    arrays = host.arrays(host.run(prompt))
    assert arrays["keep"].shape == (1, 256, 256, 3)
    assert np.array_equal(arrays["joined"], arrays["keep"])


def between_restore_and(decoder: str, prompt: dict, class_type: str, settings: dict) -> None:
    """Put a native latent node before our decoder, or before the host's."""
    prompt["between"] = node(class_type, samples=["restore", 0], **settings)
    if decoder == "VAEDecode":
        prompt["decode"] = node(decoder, vae=["vae", 0])
    prompt["decode"]["inputs"]["samples"] = ["between", 0]


CHANGES = {
    "LatentUpscaleBy": {"upscale_method": "bilinear", "scale_by": 2.0},
    "LatentFlip": {"flip_method": "y-axis: horizontally"},
    "LatentRotate": {"rotation": "90 degrees"},
    "LatentFromBatch": {"batch_index": 0, "length": 1},
    "RepeatLatentBatch": {"amount": 2},
}


@pytest.mark.parametrize("decoder", ["VARestorerDecodeTiled", "VAEDecode"])
def test_a_latent_that_was_changed_on_the_way_is_refused_in_a_sentence(host, decoder):
    for class_type, settings in CHANGES.items():
        prompt = host.chain(upscale=1.0)
        between_restore_and(decoder, prompt, class_type, settings)
        with pytest.raises(
            host.Error, match="decode first, and change the picture instead"
        ) as caught:
            host.run(prompt)
        (message,) = caught.value.messages
        assert "\n" not in message, class_type


@pytest.mark.parametrize("decoder", ["VARestorerDecodeTiled", "VAEDecode"])
@pytest.mark.parametrize(
    ("class_type", "settings"),
    [
        ("LatentMultiply", {"multiplier": 1.0}),
        ("LatentFromBatch", {"batch_index": 0, "length": 64}),
        ("RepeatLatentBatch", {"amount": 1}),
    ],
)
def test_a_latent_whose_tiles_stayed_in_place_becomes_the_picture(
    host, decoder, class_type, settings
):
    plain, prompt = host.chain(upscale=1.0), host.chain(upscale=1.0)
    between_restore_and(decoder, prompt, class_type, settings)
    expected = host.arrays(host.run(plain))["keep"]
    assert np.array_equal(host.arrays(host.run(prompt))["keep"], expected)


@pytest.mark.parametrize("decoder", ["VARestorerDecodeTiled", "VAEDecode"])
def test_tiles_whose_places_are_lost_are_announced(host, decoder):
    """Save Latent stores the tensor alone."""
    prompt = {**host.chain(upscale=1.0), "save": node("SaveLatent", samples=["restore", 0])}
    prompt["save"]["inputs"]["filename_prefix"] = "tiles"
    (saved,) = host.run(prompt)["outputs"]["save"]["latents"]
    shutil.copy(host.base / "output" / saved["filename"], host.base / "input" / "tiles.latent")
    loaded = {
        "vae": prompt["vae"],
        "load": node("LoadLatent", latent="tiles.latent"),
        "decode": node(decoder, samples=["load", 0], vae=["vae", 0]),
        "keep": prompt["keep"],
    }
    if decoder != "VAEDecode":
        loaded["decode"]["inputs"]["color_match"] = "none"
    stream = host.events("announced")
    before, number = len(host.log), host.queue(loaded, "announced")
    ends = ("varestorer.notice", "execution_success", "execution_error")
    kind, data = next(event for event in stream if event[0] in ends)
    stream.close()
    count = len(host.arrays(host.history(number))["keep"])
    assert count > 1
    assert kind == "varestorer.notice"
    assert f"This latent holds {count} samples of the size of a tile" in data["text"]
    assert data["text"] in host.log[before:]


def test_pictures_of_the_size_of_a_tile_are_not_announced(host):
    prompt = vae_round_trip({"class_type": "VAEEncode"}, {"class_type": "VAEDecode"})
    prompt["picture"] = node("EmptyImage", width=64, height=64, batch_size=3, color=0)
    before = len(host.log)
    host.run(prompt)
    assert "of the size of a tile" not in host.log[before:]


@pytest.mark.parametrize("stage", ["encode", "decode"])
def test_a_foreign_vae_is_refused_in_one_sentence(host, stage):
    prompt = host.chain()
    prompt["foreign"] = node("VAELoader", vae_name="pixel_space")
    prompt[stage]["inputs"]["vae"] = ["foreign", 0]
    with pytest.raises(host.Error, match=r"Load VARestorer VAE\.$") as caught:
        host.run(prompt)
    assert "\n" not in caught.value.messages[0]


def metadata(path: Path) -> dict:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))["__metadata__"]


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    """A small random T5 of the text width that the bundled model reads, in two parts."""
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    config = json.loads(metadata(ASSETS / "tiny_transformer.safetensors")["varestorer.config"])
    width, hidden, heads, blocks = config["text_channels"], 96, 4, 2
    generator = torch.Generator().manual_seed(0)

    def weight(*shape):
        # Values that float16 holds exactly: the host stores text encoders in it.
        return (torch.randn(shape, generator=generator) * 0.1).half().float()

    first = {"shared.weight": weight(32128, width)}
    second = {"encoder.final_layer_norm.weight": torch.ones(width)}
    for i in range(blocks):
        attention, feed = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
        for name in "qkvo":
            second[f"{attention}SelfAttention.{name}.weight"] = weight(width, width)
        second[f"{attention}layer_norm.weight"] = torch.ones(width)
        second[f"{feed}layer_norm.weight"] = torch.ones(width)
        for name in ("wi_0", "wi_1"):
            second[f"{feed}DenseReluDense.{name}.weight"] = weight(hidden, width)
        second[f"{feed}DenseReluDense.wo.weight"] = weight(width, hidden)
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    first[bias] = weight(32, heads)
    second["lm_head.weight"] = weight(7, width)  # of the decoder half, which is left out
    folder = tmp_path_factory.mktemp("t5")
    save_file(first, folder / "t5-00001-of-00002.safetensors")
    save_file(second, folder / "t5-00002-of-00002.safetensors")
    hugging_face = folder / "hugging face"
    hugging_face.mkdir()
    save_file({**first, **second}, hugging_face / "model.safetensors", metadata={"format": "pt"})
    shape = {"d_model": width, "d_ff": hidden, "num_heads": heads, "num_layers": blocks}
    shape |= {"d_kv": width // heads, "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}
    (hugging_face / "config.json").write_text(json.dumps({"model_type": "t5", **shape}))
    return folder


@pytest.fixture
def t5_host(host, t5_folder):
    for part in t5_folder.glob("*.safetensors"):
        shutil.copy(part, host.model_file("text_encoders", part.name))
    return host


def prompted(host, text: str) -> dict:
    prompt = host.chain()
    prompt["clip"] = node("VARestorerLoadTextEncoder", clip_name="t5-00002-of-00002.safetensors")
    prompt["text"] = node("CLIPTextEncode", clip=["clip", 0], text=text)
    prompt["restore"]["inputs"]["conditioning"] = ["text", 0]
    prompt["features"] = node("TestKeepText", conditioning=["text", 0])
    return prompt


def test_a_prompt_reaches_the_model_through_native_clip_nodes(t5_host):
    kept = t5_host.arrays(t5_host.run(prompted(t5_host, PROMPT)))
    without = t5_host.arrays(t5_host.run(t5_host.chain()))["keep"]
    assert kept["keep"].shape == without.shape
    assert kept["features"].shape[0] == 1
    # Brackets are text, not weights: tokens of the whole prompt, and the end token.
    plain = t5_host.arrays(t5_host.run(prompted(t5_host, PROMPT.replace("1.5", "1.7"))))["features"]
    assert plain.shape == kept["features"].shape
    assert not np.array_equal(plain, kept["features"])


ENCODE = """
import sys, numpy
from varestorer_core.text_encoder import load_text_encoder
features, mask = load_text_encoder(sys.argv[1]).encode(sys.argv[2])
assert mask.all()
numpy.save(sys.argv[3], features.numpy())
"""


def test_native_clip_gives_the_features_of_the_reference(t5_host, t5_folder, tmp_path):
    """Hugging Face's T5, which the command line uses, on the same weights and the same prompt."""
    folder = t5_folder / "hugging face"
    for file in (t5_host.folder / "comfy/text_encoders/t5_tokenizer").iterdir():
        shutil.copy(file, folder / file.name)
    t5_host.python_with_core(ENCODE, folder, PROMPT, tmp_path / "features.npy")
    expected = np.load(tmp_path / "features.npy")
    features = t5_host.arrays(t5_host.run(prompted(t5_host, PROMPT)))["features"]
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() < 1e-4


def test_long_and_empty_prompts_run(t5_host):
    long = t5_host.arrays(t5_host.run(prompted(t5_host, "leaf " * 900)))["features"]
    assert long.shape[1] == 512
    assert t5_host.arrays(t5_host.run(prompted(t5_host, "")))["features"].shape[1] == 1


def test_text_of_another_width_is_refused(t5_host):
    prompt = prompted(t5_host, PROMPT)
    prompt["narrow"] = node("TestNarrowText", conditioning=["text", 0])
    prompt["restore"]["inputs"]["conditioning"] = ["narrow", 0]
    with pytest.raises(t5_host.Error, match="channels"):
        t5_host.run(prompt)
