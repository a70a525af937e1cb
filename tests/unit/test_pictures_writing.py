"""Writing of picture files: every bit is kept, and files are complete or absent."""

import errno

import numpy as np
import pytest
import torch
from picture_files import expected, samples

from varestorer_core.errors import ImageError
from varestorer_core.pictures import (
    check_target,
    png16,
    read_picture,
    to_uint8,
    write_picture,
)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5)])
def test_16_bit_writer_round_trip(tmp_path, channels, shape):
    array = samples(*shape, channels, np.uint16)
    with (tmp_path / "a.png").open("wb") as file:
        png16.encode(file, array)
    picture = read_picture(tmp_path / "a.png")
    stored = picture.rgb if picture.alpha is None else torch.cat([picture.rgb, picture.alpha])
    kept = stored[[0, -1]] if channels == 2 else stored[:channels]
    assert np.array_equal(np.rint(kept.numpy() * 65535).transpose(1, 2, 0), array)


@pytest.mark.parametrize("depth", [8, 16])
def test_writing_in_bands_gives_the_same_file_content(tmp_path, depth, monkeypatch):
    rgb = torch.rand(3, 17, 9)
    write_picture(tmp_path / "whole.png", rgb, bit_depth=depth)
    for module in ("png16", "writing"):
        monkeypatch.setattr(f"varestorer_core.pictures.{module}._BAND", 4)
    write_picture(tmp_path / "bands.png", rgb, bit_depth=depth)
    whole, bands = (read_picture(tmp_path / f"{name}.png").rgb for name in ("whole", "bands"))
    assert torch.equal(whole, bands)
    rgb[1, 16, 3] = float("nan")
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_picture(tmp_path / "nan.png", rgb, bit_depth=depth)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.bmp"])
def test_8_bit_values_survive(tmp_path, name):
    array = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    rgb = expected(array.astype(np.float32) / 255.0)
    write_picture(tmp_path / name, rgb)
    difference = np.abs(to_uint8(read_picture(tmp_path / name).rgb).astype(int) - array)
    assert difference.max() <= (8 if name == "a.webp" else 0)


def test_samples_are_cut_as_the_host_cuts_them():
    rgb = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    host = np.clip(255.0 * rgb.permute(1, 2, 0).numpy(), 0, 255).astype(np.uint8)
    assert np.array_equal(to_uint8(rgb), host)


def test_alpha_is_written_and_read_back(tmp_path):
    rgba = samples(6, 5, 4)
    rgba[..., 3] |= 1  # hidden colours are not kept
    rgb, alpha = expected(rgba / np.float32(255))[:3], expected(rgba / np.float32(255))[3:]
    write_picture(tmp_path / "a.png", rgb, alpha)
    write_picture(tmp_path / "b.png", rgb, alpha, bit_depth=16)
    for name in ("a.png", "b.png"):
        picture = read_picture(tmp_path / name)
        assert torch.equal(picture.rgb, rgb)
        assert picture.alpha is not None
        assert torch.equal(picture.alpha, alpha)


def test_formats_refuse_what_they_cannot_hold(tmp_path):
    rgb, alpha = torch.zeros(3, 2, 2), torch.ones(1, 2, 2)
    with pytest.raises(ImageError, match="no transparency"):
        write_picture(tmp_path / "a.jpg", rgb, alpha)
    with pytest.raises(ImageError, match="16 bits"):
        write_picture(tmp_path / "a.jpg", rgb, bit_depth=16)
    with pytest.raises(ImageError, match=r"\.png"):
        check_target("a.gif", (2, 2))
    with pytest.raises(ImageError, match="16383"):
        check_target("a.webp", (2, 20_000))
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_numbers_are_refused(tmp_path):
    rgb = torch.zeros(3, 2, 2)
    rgb[0, 0, 0] = float("nan")
    with pytest.raises(ImageError, match="NaN or infinite"):
        write_picture(tmp_path / "a.png", rgb)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [8, 16])
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, depth):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("varestorer_core.atomic.os.fsync", full)
    with pytest.raises(ImageError, match=r"a\.png was not written: the disk is full"):
        write_picture(path, torch.rand(3, 8, 8), bit_depth=depth)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "depth"), [("a.png", 8), ("b.png", 16), ("c.jpg", 8)])
def test_file_cut_short_by_the_system_is_removed(tmp_path, name, depth):
    resource = pytest.importorskip("resource", reason="limits exist on Unix only")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ImageError, match=f"{name} was not written: File too large"):
            write_picture(tmp_path / name, torch.rand(3, 64, 64), bit_depth=depth)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_cancel_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def cancel(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("varestorer_core.atomic.os.fsync", cancel)
    with pytest.raises(KeyboardInterrupt):
        write_picture(tmp_path / "a.png", torch.rand(3, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(_path, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ImageError, match="Permission denied"):
        write_picture(tmp_path / "a.png", torch.rand(3, 8, 8))
    monkeypatch.undo()
    with pytest.raises(ImageError, match="does not exist"):
        write_picture(tmp_path / "missing" / "a.png", torch.rand(3, 8, 8))
