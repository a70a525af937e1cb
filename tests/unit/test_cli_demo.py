"""`varestorer demo`, with the bundled model and picture."""

import re

import pytest
from PIL import Image

from varestorer_core.assets import DEMO_LQ, DEMO_ORIGINAL, asset_path
from varestorer_core.cli.main import main
from varestorer_core.errors import VARestorerError


def check(folder, out, lq, original):
    assert sorted(path.name for path in folder.iterdir()) == [
        "demo_restored.png",
        "demo_side_by_side.png",
    ]
    assert Image.open(folder / "demo_restored.png").size == original
    assert Image.open(folder / "demo_side_by_side.png").width == 3 * original[0] + 8
    assert f"{lq[0]} x {lq[1]} -> {original[0]} x {original[1]} in " in out
    numbers = re.findall(r"^(input|restored).*PSNR +[\d.]+ dB +SSIM [\d.]+", out, re.MULTILINE)
    assert numbers == ["input", "restored"]


def test_demo_writes_both_pictures_and_prints_the_numbers(tmp_path, capsys, monkeypatch):
    """With the upper left corner of the bundled pictures: all of them take half a minute on one core."""
    lq, original = Image.open(asset_path(DEMO_LQ)), Image.open(asset_path(DEMO_ORIGINAL))
    scale = original.width // lq.width
    lq.crop((0, 0, 32, 24)).save(tmp_path / DEMO_LQ)
    original.crop((0, 0, 32 * scale, 24 * scale)).save(tmp_path / DEMO_ORIGINAL)
    corners = (DEMO_LQ, DEMO_ORIGINAL)
    monkeypatch.setattr(
        "varestorer_core.assets.asset_path",
        lambda name: tmp_path / name if name in corners else asset_path(name),
    )
    folder = tmp_path / "new" / "demo"
    assert main(["demo", "-o", str(folder)]) == 0
    check(folder, capsys.readouterr().out, (32, 24), (32 * scale, 24 * scale))


@pytest.mark.slow
def test_demo_with_the_whole_pictures(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    sizes = [Image.open(asset_path(name)).size for name in (DEMO_LQ, DEMO_ORIGINAL)]
    check(tmp_path / "demo", capsys.readouterr().out, *sizes)


def test_demo_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "demo").touch()
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_incomplete_installation(monkeypatch, tmp_path):
    monkeypatch.setattr("varestorer_core.assets._FOLDER", tmp_path)
    with pytest.raises(VARestorerError, match="Install the package again"):
        asset_path(DEMO_LQ)
