"""TIFF files, read by tifffile, which decodes layouts that Pillow scrambles: planes, 9 to 16 bits, inverted grey.

`tiff_by_pillow` tells which layouts Pillow reads correctly. Pillow reads YCbCr with reduced colour resolution, and all
layouts that it can if tifffile or imagecodecs is not installed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from . import raw, tiff_colors
from .jpeg_scans import frame_size
from .opening import check_size
from .samples import Samples, grey_as_rgb

_MAX_PAGES = 32  # examined at most; counting all pages of a long file takes as long as reading it
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_PLAIN = (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE)
_RAW_PHOTOMETRICS = (32803, 34892)  # colour filter array, LinearRaw
_OLD_JPEG = 6
_JPEG = (_OLD_JPEG, 7, 33007)
_FLOAT_SLACK = 0.01
_JPEG_HEADERS = 4096
"""Bytes of a strip or tile in which the size of its JPEG data is looked for."""


class UnsupportedLayoutError(Exception):
    """A layout that is left to Pillow."""


def read(path: Path) -> Samples:
    """Decode the first full-size picture of a TIFF file.

    Raises:
        ImageError: for a file that cannot be read correctly, with the reason.
        UnsupportedLayoutError: for a layout that tifffile cannot read, or if it is not installed.
        Exception: whatever tifffile raises on damaged files.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UnsupportedLayoutError("tifffile is not installed") from error
    with _unlogged(), tifffile.TiffFile(path) as file:
        pages = list(islice(file.pages, _MAX_PAGES))
        page, notes = _largest(pages)
        if int(page.photometric) in _RAW_PHOTOMETRICS:
            return raw.read(path)
        samples = _decoded(path, page, notes)
        samples.page = next((i for i, each in enumerate(pages) if each is page), None)
        return samples


_quiet = threading.local()


@contextmanager
def _unlogged() -> Iterator[None]:
    """Silence tifffile's log about damaged files: errors that matter are raised."""
    _filter_once()
    _quiet.on = True
    try:
        yield
    finally:
        _quiet.on = False


@lru_cache(maxsize=None)
def _filter_once() -> None:
    # Per thread, because the surrounding program may read TIFF files of its own and need the log.
    logging.getLogger("tifffile").addFilter(lambda _: not getattr(_quiet, "on", False))


def _largest(pages: list[Any]) -> tuple[Any, list[str]]:
    """Return the first page that is a picture of full size, its SubIFDs included, and notes."""
    first = pages[0]
    inner = [sub for page in pages for sub in (page.pages or [])]
    notes = []
    if first.subfiletype & 1 or inner:
        whole = [page for page in [*pages, *inner] if not page.subfiletype & 1] or pages
        best = max(whole, key=lambda page: page.imagewidth * page.imagelength)
        if best is not first and _area(best) > _area(first):
            size = f"{best.imagewidth} x {best.imagelength}"
            notes.append(f"starts with a reduced picture; the one of {size} is restored")
            return best, notes
    if sum(not page.subfiletype & 1 for page in pages) > 1:
        notes.append("holds more than one page; only the first is restored")
    return first, notes


def _area(page: Any) -> int:
    return page.imagewidth * page.imagelength


def _decoded(path: Path, page: Any, notes: list[str]) -> Samples:
    check_size(path, page.imagewidth, page.imagelength)
    photometric, is_jpeg = int(page.photometric), int(page.compression) in _JPEG
    if photometric not in _PLAIN and photometric not in tiff_colors.CONVERTED:
        raise UnsupportedLayoutError(f"it holds colours of the kind {_name(page.photometric)}")
    if photometric == tiff_colors.YCBCR and not is_jpeg and tuple(page.subsampling) != (1, 1):
        raise UnsupportedLayoutError("its colours have a lower resolution than its brightness")
    if int(page.compression) == _OLD_JPEG:
        raise UnsupportedLayoutError("it holds JPEG data of the outdated kind")
    _check_layout(path, page)
    values = _channels_last(path, page, _values(page))
    if photometric in tiff_colors.CONVERTED and not (photometric == tiff_colors.YCBCR and is_jpeg):
        return _converted(path, page, values, notes)
    if photometric == _PALETTE:
        values = _looked_up(path, page, values[..., 0])
        bits = 16 if bool((values % 257).any()) else 8
        values = values if bits == 16 else (values // 257).astype(np.uint8)
    else:
        values, bits = _scaled(path, page, values)
    wanted = 1 if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3
    color, extra = values[..., :wanted], values[..., wanted:]
    alpha = None
    if extra.shape[-1]:
        color, alpha = _with_alpha(page, color, extra, notes)
    if photometric == _WHITE_IS_ZERO:
        color = (1 - color) if color.dtype == np.float32 else np.iinfo(color.dtype).max - color
    if page.dtype.kind == "f":
        notes.append("holds floating-point values in [0, 1], read as 16 bits per channel")
    return Samples(
        color if wanted == 3 else grey_as_rgb(color[..., 0]),
        alpha,
        grey=wanted == 1,
        bit_depth=bits,
        icc_profile=page.iccprofile,
        orientation=_orientation(page),
        notes=notes,
    )


def _converted(path: Path, page: Any, values: NDArray, notes: list[str]) -> Samples:
    """Return a picture in CMYK, Lab or YCbCr, converted to RGB."""
    values, bits = _scaled(path, page, values, signed=int(page.photometric) == tiff_colors.CIELAB)
    if bits == 16:
        notes.append("has 16 bits per channel, read as 8 to convert its colours")
    return tiff_colors.converted(path, page, values, _orientation(page), notes)


def _values(page: Any) -> NDArray:
    """Return the stored values; see `read` for the errors."""
    try:
        return page.asarray()
    # tifffile raises one or the other, depending on whether the compression or the packing of bits needs imagecodecs.
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" in str(error):
            raise UnsupportedLayoutError("reading it needs imagecodecs") from error
        raise


def _name(kind: Any) -> str:
    """Return the name of a value that the format defines, else its number."""
    return str(getattr(kind, "name", kind))


def _orientation(page: Any) -> int:
    tag = page.tags.get(274)
    return int(tag.value) if tag is not None else 1


def _check_layout(path: Path, page: Any) -> None:
    """Reject unusual layouts and incomplete files before any memory is allocated."""
    if page.imagedepth != 1 or page.samplesperpixel > 8:
        raise ImageError(
            f"{path} holds {page.samplesperpixel} channels and {page.imagedepth} layers. Save it as a plain picture."
        )
    if page.is_tiled and page.tilewidth * page.tilelength > max(4 * _area(page), 1 << 22):
        raise ImageError(f"{path} is damaged: its tiles are far larger than the picture.")
    if int(page.compression) in _JPEG:
        _check_jpeg_sizes(path, page)
    size = path.stat().st_size
    places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not places or any(
        count <= 0 or start <= 0 or start + count > size for start, count in places
    ):
        raise ImageError(f"{path} is damaged or incomplete: a part of the picture is missing.")
    if int(page.compression) == 1:
        need = -(-_area(page) * page.samplesperpixel * _bits(page) // 8)
        if sum(count for _, count in places) < need:
            raise ImageError(f"{path} is damaged or incomplete: a part of the picture is missing.")


def _check_jpeg_sizes(path: Path, page: Any) -> None:
    """Reject parts that are larger than their place in the picture, whose decoding would only consume memory."""
    most = max(4 * _area(page), 1 << 22)
    with path.open("rb") as file:
        for start in page.dataoffsets:
            file.seek(start)
            height, width = frame_size(file.read(_JPEG_HEADERS))
            if height * width > most:
                raise ImageError(f"{path} is damaged: its parts are far larger than the picture.")


def _bits(page: Any) -> int:
    bits = page.bitspersample
    if isinstance(bits, tuple):
        if len(set(bits)) > 1:
            raise UnsupportedLayoutError(f"bits per channel {bits}")
        bits = bits[0]
    return int(bits)


def _channels_last(path: Path, page: Any, values: NDArray) -> NDArray:
    """Return values as (H, W, channels), whatever the order in the file."""
    values = values.reshape(page.shape)
    axes = page.axes
    if axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    elif axes == "YX":
        values = values[..., None]
    elif axes != "YXS":
        raise ImageError(f"{path} holds a stack of axes {axes}. Save it as a plain picture.")
    if not 1 <= values.shape[-1] <= 8:
        raise ImageError(f"{path} holds {values.shape[-1]} channels. Save it as a plain picture.")
    return values


def _scaled(path: Path, page: Any, values: NDArray, *, signed: bool = False) -> tuple[NDArray, int]:
    """Return values over the full range of uint8 or uint16, or float32 in [0, 1]; and 8 or 16.

    Args:
        signed: accept signed integers, and return their bits unchanged as unsigned ones.
    """
    bits = _bits(page)
    if signed and values.dtype.kind == "i" and bits in (8, 16):
        values = values.view(values.dtype.str.replace("i", "u"))
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255), 8
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not (low >= -_FLOAT_SLACK and high <= 1 + _FLOAT_SLACK):  # also rejects NaN
            raise ImageError(
                f"{path} holds floating-point values from {low:g} to {high:g}; black must be 0 and white 1. "
                "Save it with 8 or 16 bits per channel."
            )
        return np.clip(values.astype(np.float32), 0, 1), 16
    if values.dtype.kind != "u" or bits > 16:
        kind = "signed" if values.dtype.kind == "i" else f"{bits}-bit"
        raise ImageError(
            f"{path} holds {kind} integers. Save it with 8 or 16 bits per channel, unsigned."
        )
    depth = 8 if bits <= 8 else 16
    if bits != depth:
        top = 2**bits - 1
        values = np.rint(values.astype(np.float64) * ((2**depth - 1) / top))
    return values.astype(np.uint8 if depth == 8 else np.uint16), depth


def _looked_up(path: Path, page: Any, indices: NDArray) -> NDArray:
    """Return the colours (H, W, 3) uint16 of a palette picture."""
    palette = page.colormap
    if palette is None or palette.shape[0] != 3 or int(indices.max()) >= palette.shape[1]:
        raise ImageError(f"{path} is damaged: its palette does not hold all of its colours.")
    palette = palette.astype(np.uint16)
    if palette.max() < 256:  # some programs write 8 bits
        palette = palette * np.uint16(257)
    elif not bool((palette & 255).any()):  # others leave the low byte empty
        palette = (palette >> 8) * np.uint16(257)
    return palette.T[indices.astype(np.intp)]


def _with_alpha(
    page: Any, color: NDArray, extra: NDArray, notes: list[str]
) -> tuple[NDArray, NDArray | None]:
    """Return colours without alpha multiplied in, and the alpha channel (H, W) if one is declared."""
    kinds = [int(kind) for kind in page.extrasamples]
    for index, kind in enumerate(kinds[: extra.shape[-1]]):
        alpha = extra[..., index]
        if kind == 2:
            return color, alpha
        if kind == 1:
            unit = alpha.astype(np.float64)[..., None]
            top = 1.0 if color.dtype == np.float32 else float(np.iinfo(color.dtype).max)
            plain = np.where(unit > 0, color * (top / np.maximum(unit, 1e-12)), 0)
            plain = plain if color.dtype == np.float32 else np.rint(plain)
            return np.clip(plain, 0, top).astype(color.dtype), alpha
    notes.append("has an extra channel that is not declared as transparency, which was ignored")
    return color, None
