"""Tiles of every pixel class: chosen on the command line, recorded in files, trained on."""

import dataclasses
import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from varestorer_core.assets import TINY_TRANSFORMER, asset_path
from varestorer_core.cli.main import main
from varestorer_core.distill.run import run_stage
from varestorer_core.errors import SettingError
from varestorer_core.loading import load_restorer, pixel_class_of
from varestorer_core.schedule import PIXEL_CLASSES, get_schedule


@pytest.mark.parametrize(
    ("patch", "sides"), [(16, (256, 512, 768, 1024)), (4, (64, 128, 192, 256))]
)
def test_a_tile_is_named_by_its_side(patch, sides):
    assert [pixel_class_of(side, patch) for side in sides] == list(PIXEL_CLASSES)
    with pytest.raises(SettingError, match=f"{sides[0]}, {sides[1]}, .* got 100"):
        pixel_class_of(100, patch)


@pytest.mark.parametrize("side", [64, 192, pytest.param(256, marks=pytest.mark.slow)])
def test_a_picture_is_restored_with_other_tiles(side):
    restorer = load_restorer(device="cpu", dtype="fp32", tile=side)
    assert restorer.stages.tile == side
    picture = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0))
    tiles = []
    result = restorer.restore(picture, upscale=1.0, on_progress=lambda *done: tiles.append(done))
    assert result.shape == picture.shape
    assert torch.isfinite(result).all()
    assert tiles[-1] == (3, 3)  # one tile in three stages


def test_the_command_takes_the_side_and_records_it(tmp_path, capsys):
    Image.new("RGB", (24, 16), (90, 120, 60)).save(tmp_path / "a.png")
    start = ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--upscale", "1"]
    assert main([*start, "--tile", "100"]) == 2
    assert "64, 128, 192, 256 pixels" in capsys.readouterr().err
    assert main([*start, "--tile", "64", "--skip-existing"]) == 0
    (line,) = (tmp_path / "out" / ".varestorer-manifest.jsonl").read_text().splitlines()
    assert json.loads(line)["settings"]["tile"] == 64
    capsys.readouterr()
    assert main([*start, "--skip-existing"]) == 0  # another tile is another result
    assert "1 restored" in capsys.readouterr().out


def test_the_class_is_kept_in_a_converted_file(tmp_path, capsys):
    source, target = asset_path(TINY_TRANSFORMER), tmp_path / "large.safetensors"
    assert main(["convert", str(source), "-o", str(target), "--pixel-class", "0.60M"]) == 0
    with safe_open(target, "pt") as file:
        assert json.loads(file.metadata()["varestorer.config"])["pixel_class"] == "0.60M"
    assert load_restorer(target, device="cpu", dtype="fp32").stages.tile == 192
    tokenizer = asset_path("tiny_tokenizer.safetensors")
    command = ["convert", str(tokenizer), "-o", str(tmp_path / "t.safetensors")]
    capsys.readouterr()
    assert main([*command, "--pixel-class", "1M"]) != 0
    assert "a pixel class needs a whole transformer" in capsys.readouterr().err
    assert not (tmp_path / "t.safetensors").exists()


def test_a_level_embedding_without_rows_for_all_scales_is_named(tmp_path, monkeypatch):
    from varestorer_core import loading

    identify = loading.identify

    def short(*args):
        info = identify(*args)
        return dataclasses.replace(info, config=dataclasses.replace(info.config, level_rows=11))

    monkeypatch.setattr(loading, "identify", short)
    with pytest.raises(
        SettingError, match="need 13 rows of the level embedding, but this model has 11"
    ):
        load_restorer(device="cpu", dtype="fp32", tile=192)


@pytest.mark.slow
@pytest.mark.parametrize("pixel_class", ["0.60M", "1M"])
def test_every_stage_trains_on_large_tiles(tmp_path, micro_run, pixel_class):
    settings = micro_run(tmp_path / "run", pictures=1, validation_pictures=1)
    batches = {
        name: dataclasses.replace(getattr(settings, name), batch=1)
        for name in (
            "tokenizer_settings",
            "teacher_settings",
            "encoder_settings",
            "student_settings",
        )
    }
    settings = dataclasses.replace(
        settings,
        transformer=dataclasses.replace(settings.transformer, pixel_class=pixel_class),
        steps=dict.fromkeys(settings.steps, 1),
        **batches,
    )
    assert settings.tile == get_schedule(1.0, pixel_class).pixel_size(2)[0]
    for stage in ("tokenizer", "teacher", "encoder", "student"):
        assert run_stage(stage, settings)
