"""Grey pictures and cut-outs through the command, with the bundled model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.cli import restore
from varestorer_core.cli.main import main
from varestorer_core.pictures import read_picture
from varestorer_core.resize import resize_lanczos
from varestorer_core.restorer import Restorer

CASES = Path(__file__).parents[1] / "data" / "pictures"


@pytest.fixture
def run(tmp_path, monkeypatch, bundled):
    """Return a function that restores a picture with the command, optionally after a tinting cleaner."""

    def restored(source, *options, tint=0.0):
        stages = bundled.stages
        if tint:
            shift = torch.tensor([tint, 0.0, -tint])[:, None, None]
            stages = replace(stages, cleaner=lambda tiles: tiles + shift)
        monkeypatch.setattr(restore, "load_models", lambda *_, **__: Restorer(stages))
        target = tmp_path / "result.png"
        assert main(["restore", str(source), "-o", str(target), "--device", "cpu", *options]) == 0
        return target

    return restored


@pytest.fixture
def photo(tmp_path):
    """Return a function that writes a small grey picture."""

    def write(mode, box=(8, 8, 40, 32)):
        image = Image.open(CASES / "grey_photo.png").convert("L").crop(box)
        if mode == "LA":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        image.save(tmp_path / "grey.png")
        return tmp_path / "grey.png"

    return write


@pytest.mark.parametrize("tint", [0.0, 0.3])
@pytest.mark.parametrize("detail", ["0", "1"])
@pytest.mark.parametrize("color_match", ["none", "wavelet", "adain", "lab"])
def test_grey_stays_one_channel(run, photo, color_match, detail, tint):
    options = ("--color-match", color_match, "--detail", detail)
    assert Image.open(run(photo("L"), *options, tint=tint)).mode == "L"


@pytest.mark.parametrize("mode", ["LA", "I;16", "L"])
def test_grey_with_alpha_of_16_bits_and_of_several_tiles(run, photo, mode):
    box = (0, 0, 72, 20) if mode == "L" else (8, 8, 40, 32)
    source = photo(mode, box)
    result = Image.open(run(source, "--detail", "1"))
    assert result.mode == mode
    assert result.size == tuple(2 * side for side in Image.open(source).size)


def test_a_fax_stays_grey(run, tmp_path):
    Image.open(CASES / "text_g4.tif").crop((0, 0, 40, 24)).save(
        tmp_path / "fax.tif", compression="group4"
    )
    assert Image.open(run(tmp_path / "fax.tif")).mode == "L"


def test_the_rim_of_a_cut_out_is_not_darkened(run, bundled):
    """On white, against a restoration of the disc's colour without any cut-out: at most 4 of 255 darker."""
    source = read_picture(CASES / "cutout_hidden_black.png")
    result = read_picture(run(CASES / "cutout_hidden_black.png"))
    alpha = result.alpha
    color = torch.tensor([235, 225, 210]) / 255
    plain = bundled.restore(color[:, None, None].expand(3, *source.size).contiguous(), upscale=2.0)
    rim = (resize_lanczos(source.alpha, result.size) > 0.02) & (alpha < 0.98)
    assert rim.any()
    darker = ((plain - result.rgb) * alpha)[rim.expand(3, -1, -1)]
    assert darker.max() <= 4 / 255


def test_hidden_black_would_darken_the_rim(run, monkeypatch, bundled):
    from varestorer_core.pictures import reading

    monkeypatch.setattr(reading, "fill_hidden", lambda rgb, _: rgb)
    with pytest.raises(AssertionError):
        test_the_rim_of_a_cut_out_is_not_darkened(run, bundled)
