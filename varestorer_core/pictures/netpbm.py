"""Netpbm files (P2, P3, P5 and P6) with more than 8 bits, which Pillow reads as 8 or 32 bits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from .opening import check_size, starts_with
from .samples import Samples, grey_as_rgb

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(
    rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s"
)
_LONGEST_HEADER = 4096
_GREY, _TEXT = (b"2", b"5"), (b"2", b"3")
_PART = 1 << 20
_WORDS = re.compile(rb"\S+|\s+$")
"""Words, and the gap at the end of a part, which shows that its last word is complete."""


def read(path: Path) -> Samples | None:
    """Return the samples of a PGM or PPM file, binary or text, with more than 8 bits; None for any other file.

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
    channels = 1 if match[1] in _GREY else 3
    count = width * height * channels
    if path.stat().st_size < match.end() + 2 * count - 1:  # text has at least a digit and a gap
        raise _incomplete(path)
    if match[1] in _TEXT:
        values = _numbers(path, match.end(), count)
    else:
        values = np.fromfile(path, ">u2", count, offset=match.end()).astype(np.uint16)
    if values.size < count:
        raise _incomplete(path)
    if top != 65535:
        scaled = np.rint(np.minimum(values, top) * (65535 / top))
        values = scaled.astype(np.uint16)
    values = values.reshape(height, width, channels)
    color = values if channels == 3 else grey_as_rgb(values[..., 0])
    return Samples(color, grey=channels == 1, bit_depth=16)


def _numbers(path: Path, start: int, count: int) -> NDArray[np.uint16]:
    """Return numbers written as text; fewer if the text has fewer, or holds anything else.

    The text is read in parts, because the list of its words takes far more memory than the numbers.
    """
    parts, rest, found = [], b"", 0
    with path.open("rb") as file:
        file.seek(start)
        while found < count and (text := file.read(_PART)):
            *words, rest = _WORDS.findall(rest + text) or [b""]
            if words and not all(word.isdigit() and len(word) < 6 for word in words):
                break
            parts.append(np.array(words, dtype="S5").astype(np.uint32))
            found += len(words)
        else:
            if rest.strip().isdigit() and len(rest.strip()) < 6:
                parts.append(np.array([int(rest)], np.uint32))
    values = np.concatenate([*parts, np.empty(0, np.uint32)])[:count]
    return np.minimum(values, 65535).astype(np.uint16)


def _incomplete(path: Path) -> ImageError:
    return ImageError(f"{path} is damaged or incomplete: a part of the picture is missing.")
