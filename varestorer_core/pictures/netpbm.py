"""Netpbm files (P5 and P6) with more than 8 bits, which Pillow reads as 8 or 32 bits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import ImageError
from .opening import check_size, starts_with
from .samples import Samples, grey_as_rgb

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(
    rb"P([56])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s"
)
_LONGEST_HEADER = 4096


def read(path: Path) -> Samples | None:
    """Return the samples of a binary PGM or PPM file with more than 8 bits; None for any other file.

    Raises:
        ImageError: for a file that ends too early or is too large.
    """
    match = _HEADER.match(starts_with(path, _LONGEST_HEADER))
    if match is None:
        return None
    width, height, top = (int(match[i]) for i in (2, 3, 4))
    if not 255 < top <= 65535:
        return None
    check_size(path, width, height)
    channels = 1 if match[1] == b"5" else 3
    count = width * height * channels
    if path.stat().st_size < match.end() + 2 * count:
        raise ImageError(f"{path} is damaged or incomplete: a part of the picture is missing.")
    values = np.fromfile(path, ">u2", count, offset=match.end()).astype(np.uint16)
    if top != 65535:
        scaled = np.rint(np.minimum(values, top) * (65535 / top))
        values = scaled.astype(np.uint16)
    values = values.reshape(height, width, channels)
    color = values if channels == 3 else grey_as_rgb(values[..., 0])
    return Samples(color, grey=channels == 1, bit_depth=16)
