"""The node that makes test pictures: those of the command, batches and lists, alpha."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.host

PRESETS = [
    "official",
    "real",
    "mild",
    "social",
    "x4",
    "rain",
    "low_light",
    "salt_and_pepper",
    "heavy_jpeg",
    "motion_blur",
]
# The second file of a folder draws by its index: an original before it in the alphabet, then the LQ.
COMMAND = """
import json, sys
from importlib.resources import files
from pathlib import Path
import numpy as np
from PIL import Image
from varestorer_core.cli.main import main
folder, presets = Path(sys.argv[1]), json.loads(sys.argv[2])
(folder / "in").mkdir()
for name, asset in (("a", "demo_original.png"), ("b", "demo_lq.png")):
    picture = Image.open(files("varestorer_core") / "assets" / asset).convert("RGB")
    picture.save(folder / "in" / f"{name}.png")
for preset in presets:
    arguments = ["degrade", str(folder / "in"), "-o", str(folder / preset)]
    assert main([*arguments, "--preset", preset, "--scale", "1.5", "--seed", "7"]) == 0
    for name in "ab":
        np.save(folder / f"{preset}-{name}.npy", np.asarray(Image.open(folder / preset / f"{name}.png")))
"""


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def degraded(host, picture: dict, **settings) -> list[np.ndarray]:
    """Degrade a node's pictures; return the batches (B, H, W, C) that came out."""
    settings = {"preset": "mild", "scale": 1.0, "seed": 0, **settings}
    prompt = {
        "picture": picture,
        "degrade": node("VARestorerDegrade", image=["picture", 0], **settings),
        "keep": node("TestKeep", image=["degrade", 0]),
    }
    return host.lists(host.run(prompt))["keep"]


def test_the_pictures_are_those_of_the_command(host, tmp_path):
    host.python_with_core(COMMAND, tmp_path, json.dumps(PRESETS))
    prompt = {
        "original": node("VARestorerExampleImage", picture="original"),
        "lq": node("VARestorerExampleImage", picture="degraded"),
        "list": node("TestList", first=["original", 0], second=["lq", 0]),
    }
    for preset in PRESETS:
        prompt[preset] = node(
            "VARestorerDegrade", image=["list", 0], preset=preset, scale=1.5, seed=7
        )
        prompt[f"keep {preset}"] = node("TestKeep", image=[preset, 0])
    results = host.lists(host.run(prompt))
    for preset in PRESETS:
        for name, ours in zip("ab", results[f"keep {preset}"], strict=True):
            expected = np.load(tmp_path / f"{preset}-{name}.npy")
            assert np.array_equal(np.rint(ours[0] * 255).astype(np.uint8), expected), (preset, name)


def test_pictures_of_a_batch_draw_by_their_index(host):
    whole = degraded(host, node("TestPicture", kind="batch"), preset="salt_and_pepper")
    (batch,) = whole
    (alone,) = degraded(host, node("TestPicture", kind="gradient"), preset="salt_and_pepper")
    (other,) = degraded(
        host, node("TestPicture", kind="gradient"), preset="salt_and_pepper", seed=1
    )
    assert batch.shape == (3, 40, 56, 3)
    assert np.array_equal(batch[:1], alone)
    assert not np.array_equal(alone, other)
    # Where each picture was struck: other places in each.
    struck = [(picture == 0).all(-1) | (picture == 1).all(-1) for picture in batch]
    assert (struck[0] != struck[1]).any()
    assert (struck[1] != struck[2]).any()


def test_a_list_stays_a_list_of_its_sizes(host):
    results = degraded(host, node("TestPictureList"), scale=2.0)
    assert [batch.shape for batch in results] == [(1, 20, 28, 3), (1, 6, 12, 3), (1, 10, 28, 3)]


def test_alpha_is_kept_and_grey_becomes_rgb(host):
    (transparent,) = degraded(host, node("TestPicture", kind="rgba"), scale=4.0)
    (grey,) = degraded(host, node("TestPicture", kind="grey"), scale=4.0)
    assert transparent.shape == (1, 10, 14, 4)
    assert np.allclose(transparent[..., 3], 1)
    assert grey.shape == (1, 10, 14, 3)


def test_a_pixel_survives_the_strongest_scale(host):
    (result,) = degraded(host, node("TestPicture", kind="pixel"), preset="real", scale=8.0)
    assert result.shape == (1, 1, 1, 3)


@pytest.mark.parametrize(("kind", "words"), [("nan", "NaN"), ("empty", "empty")])
def test_a_broken_picture_is_refused_in_a_sentence(host, kind, words):
    with pytest.raises(host.Error, match=words):
        degraded(host, node("TestPicture", kind=kind))


def test_a_new_node_shows_damage(host):
    """With all values as they are when the node is added: far from the picture, and of its size."""
    fields = host.get("/object_info/VARestorerDegrade")["VARestorerDegrade"]["input"]["required"]
    defaults = {name: fields[name][1]["default"] for name in ("preset", "scale", "seed")}
    original = node("VARestorerExampleImage", picture="original")
    (result,) = degraded(host, original, **defaults)
    (before,) = host.lists(
        host.run({"picture": original, "keep": node("TestKeep", image=["picture", 0])})
    )["keep"]
    assert result.shape == before.shape
    decibels = -10 * np.log10(np.mean((result - before) ** 2))
    assert decibels < 25
    # Blurred: much of the differences between neighbours is gone.
    assert np.abs(np.diff(result, axis=1)).mean() < 0.6 * np.abs(np.diff(before, axis=1)).mean()
