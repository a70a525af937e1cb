"""`varestorer demo`, with the bundled model and picture."""

import re

import pytest
from PIL import Image

from varestorer_core.assets import DEMO_LQ, DEMO_ORIGINAL, asset_path
from varestorer_core.cli.main import main
from varestorer_core.errors import VARestorerError


def test_demo_writes_both_pictures_and_prints_the_numbers(tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert main(["demo", "-o", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "demo_restored.png",
        "demo_side_by_side.png",
    ]
    size = Image.open(asset_path(DEMO_ORIGINAL)).size
    assert Image.open(folder / "demo_restored.png").size == size
    assert Image.open(folder / "demo_side_by_side.png").width == 3 * size[0] + 8
    out = capsys.readouterr().out
    lq = Image.open(asset_path(DEMO_LQ)).size
    assert f"{lq[0]} x {lq[1]} -> {size[0]} x {size[1]} in " in out
    numbers = re.findall(r"^(input|restored).*PSNR +[\d.]+ dB +SSIM [\d.]+", out, re.MULTILINE)
    assert numbers == ["input", "restored"]


def test_demo_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "demo").touch()
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_incomplete_installation(monkeypatch, tmp_path):
    monkeypatch.setattr("varestorer_core.assets._FOLDER", tmp_path)
    with pytest.raises(VARestorerError, match="Install the package again"):
        asset_path(DEMO_LQ)
