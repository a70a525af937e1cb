"""The bundled adapters of the bundled model: by name, with their recommended settings, and what they gain."""

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core import load_restorer
from varestorer_core.assets import ADAPTERS, DEMO_ORIGINAL, adapter_file, asset_path
from varestorer_core.cli.main import main
from varestorer_core.degradation import degrade, picture_generator
from varestorer_core.metrics import psnr
from varestorer_core.pictures import read_picture
from varestorer_core.settings import RestoreSettings


@pytest.fixture
def photo(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(samples).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("task", sorted({*ADAPTERS} - {"heavy_jpeg"}))
def test_a_bundled_adapter_improves_the_picture_that_it_is_for(task):
    """A part of the demonstration picture, against the bundled model without it, which knows JPEG already."""
    original = read_picture(asset_path(DEMO_ORIGINAL)).rgb[:, 60:188, 160:288]
    lq = degrade(original, task, picture_generator(seed=0, index=0), scale=1)
    adapted = load_restorer(adapters=[task], device="cpu")
    plain = load_restorer(device="cpu").restore(lq, adapted.defaults, upscale=1.0)
    assert psnr(adapted.restore(lq, upscale=1.0), original) > psnr(plain, original) + 0.01


def test_the_recommended_settings_of_adapters_are_the_defaults_of_a_restorer():
    usual = RestoreSettings()
    dark = load_restorer(adapters={"low_light": 0.5}, device="cpu")
    assert dark.defaults == usual.with_changes({"color_match": "none"})
    assert load_restorer(adapters={"low_light": 0}, device="cpu").defaults == usual
    lq = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0)) / 8
    results = [dark.restore(lq, **settings) for settings in ({}, {"color_match": "none"})]
    assert torch.equal(*results)
    assert not torch.equal(dark.restore(lq, usual), results[0])


def test_a_bundled_adapter_by_its_name(photo):
    def restored(*options):
        out = photo.with_name("out.png")
        command = ["restore", str(photo), "-o", str(out), "--device", "cpu", "--upscale", "1"]
        assert main([*command, *options]) == 0
        return out.read_bytes()

    file = str(asset_path(adapter_file("rain")))
    assert restored("--adapter", "rain") == restored("--adapter", file)
    assert restored("--adapter", "rain:0.5") == restored("--adapter", f"{file}:0.5")
    assert restored("--adapter", "rain:0") == restored()


def test_a_bundled_name_comes_before_a_file_of_that_name(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["restore", str(photo), "-o", str(tmp_path / "out.png"), "--device", "cpu"]
    (tmp_path / "rain").write_bytes(b"not an adapter")
    assert main([*command, "--adapter", "rain:0.5"]) == 0
    said = "--adapter rain is the bundled adapter; ./rain is the file of that name"
    assert said in capsys.readouterr().err
    assert main([*command, "--adapter", "./rain"]) == 1
    assert said not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", ":0.5"])
def test_an_adapter_without_a_file_is_refused(text, photo, capsys):
    command = ["restore", str(photo), "-o", str(photo.with_name("out.png"))]
    assert main([*command, "--adapter", text]) == 2
    assert (
        f"--adapter needs a file, or one of motion_blur, heavy_jpeg, rain, low_light, salt_and_pepper, got {text!r}"
        in (capsys.readouterr().err)
    )


def test_a_name_that_is_neither_file_nor_bundled_lists_those_that_are(photo, capsys):
    assert (
        main(["restore", str(photo), "-o", str(photo.with_name("out.png")), "--adapter", "snow"])
        == 2
    )
    error = capsys.readouterr().err
    assert "no such file or folder" in error
    assert "motion_blur, heavy_jpeg, rain, low_light, salt_and_pepper" in error
