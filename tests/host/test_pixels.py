"""The canvas and the command line give the same pixels for the same settings, on the CPU."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host

PACK = Path(__file__).parents[2]
DEMO = PACK / "varestorer_core" / "assets" / "demo_lq.png"
PHOTO = PACK.parent / "shared" / "images" / "official_input_dog.png"
"""A real degraded photograph, kept beside the checkout where this project is developed."""

SETTINGS = [
    {"upscale": 1.0, "overlap": 64, "seed": 0, "detail": 0.0, "color_match": "none"},
    {"upscale": 2.0, "overlap": 64, "seed": 0, "detail": 0.0, "color_match": "wavelet"},
    {"upscale": 1.5, "overlap": 32, "seed": 7, "detail": 0.6, "color_match": "lab"},
]


def command_line(host, source: Path, target: Path, settings: dict) -> np.ndarray:
    """Restore with the command, run by the host's own Python, and return 8-bit pixels (H, W, 3)."""
    from PIL import Image

    # A link to the core alone: with the repository on the path, our nodes/ would shadow the host's.
    side = target.parent / "side"
    side.mkdir()
    (side / "varestorer_core").symlink_to(PACK / "varestorer_core", target_is_directory=True)
    start = "import sys; from varestorer_core.cli.main import main; sys.exit(main())"
    command = [host.python, "-c", start, "restore", str(source), "-o", str(target)]
    command += ["--device", "cpu"]
    for name, value in settings.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    done = subprocess.run(
        command,
        env={**host.ENVIRONMENT, "PYTHONPATH": str(side)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with Image.open(target) as result:
        return np.asarray(result.convert("RGB"))


@pytest.mark.parametrize("source", [DEMO, PHOTO], ids=["demo", "photograph"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"x{s['upscale']:g}")
def test_same_pixels_as_the_command_line(host, tmp_path, source, settings):
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    expected = command_line(host, source, tmp_path / "result.png", settings)

    shutil.copy(source, host.base / "input" / source.name)
    prompt = host.chain(image=["load", 0], **settings)
    prompt["load"] = {"class_type": "LoadImage", "inputs": {"image": source.name}}
    prompt["save"] = {"class_type": "SaveImage", "inputs": {"images": ["decode", 0]}}
    prompt["save"]["inputs"]["filename_prefix"] = "pixels"
    saved = host.picture(host.run(prompt), "save")
    assert np.array_equal(np.asarray(saved), expected)
