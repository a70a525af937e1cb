"""JPEG files whose last bytes or rows are missing: read what is there, as long as most of the picture is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from .jpeg_scans import read_frame

_END = b"\xff\xd9"
_PROBE = 64
"""Bytes left out of a second decoding; the two results differ where the file ends."""
_MOST_MISSING = 8
"""A picture is read if no more than this fraction (1 / 8) of its rows is missing."""
_FEWEST_ROWS = 16
"""Rows that may be missing of a small picture: one row of blocks with reduced colour resolution."""
_BLOCK = 8
_MORE = bytes(range(1, 65))
"""Data that any scan accepts: it contains no marker."""
_MOST_BITS = 2
"""Lowest bits of a coefficient that may be missing from the whole picture: its shape is then known."""


def read_cut(
    path: Path, content: bytes, opened: Callable[[io.BytesIO], Image.Image]
) -> tuple[Image.Image, str]:
    """Return the loaded picture of a JPEG file that ends too early, and a note that says how much of it is missing.

    Args:
        path: the name in messages.
        content: the file.

    Raises:
        ImageError: if too much is missing.
        Exception: whatever Pillow raises for other damage.
    """
    frame = read_frame(content)
    if frame is None:
        raise _refused(path, "it ends before the picture begins")
    image = opened(io.BytesIO(content + _END))
    image.load()
    rows = _missing_rows(image, content, opened)
    few = rows <= max(_FEWEST_ROWS, image.height // _MOST_MISSING)
    before, after = (frame.missing_bits(len(frame.scans) - less) for less in (1, 0))
    # A scan that is nearly complete counts; the end of the picture is then filled in by what came before.
    known = after if few else before
    if known.max() > _MOST_BITS:
        if not after.any():
            raise _refused(path, f"{rows} of its {image.height} rows are missing")
        share = (known > _MOST_BITS).mean()
        raise _refused(path, f"{share:.0%} of its details are missing")
    if not known.any():
        return image, f"ends too early: the last {rows} of {image.height} rows are filled in"
    share, bits = (known > 0).mean(), known.max()
    lacking = "the last bit is" if bits == 1 else f"the last {bits} bits are"
    return image, f"ends too early: of {share:.0%} of its details, {lacking} missing"


def filled_in(
    path: Path, image: Image.Image, opened: Callable[[io.BytesIO], Image.Image]
) -> list[str]:
    """Return a note if a loaded JPEG file has an end, but fewer rows than its header declares; else nothing.

    A decoder fills them with one colour. More data before the end changes the pixels only if some are missing.

    Raises:
        ImageError: if too many rows are missing.
    """
    pixels = np.asarray(image)
    corner = pixels[-_BLOCK:, -_BLOCK:]
    if (corner != corner[:1, :1]).any():
        return []
    content = path.read_bytes()
    end = content.rfind(_END)
    with opened(io.BytesIO(content[:end] + _MORE + content[end:])) as longer:
        differs = (pixels != np.asarray(longer)).reshape(image.height, -1).any(axis=1)
    if not differs.any():
        return []
    rows = image.height - int(differs.argmax())
    if rows > max(_FEWEST_ROWS, image.height // _MOST_MISSING):
        raise _refused(path, f"{rows} of its {image.height} rows are missing")
    return [f"ends too early: the last {rows} of {image.height} rows are filled in"]


def _refused(path: Path, reason: str) -> ImageError:
    return ImageError(f"{path} is damaged or incomplete: {reason}.")


def _missing_rows(
    image: Image.Image, content: bytes, opened: Callable[[io.BytesIO], Image.Image]
) -> int:
    """Return how many rows the last scan does not reach."""
    with opened(io.BytesIO(content[:-_PROBE] + _END)) as shorter:
        differs = (np.asarray(image) != np.asarray(shorter)).reshape(image.height, -1).any(axis=1)
    return image.height - int(differs.argmax()) if differs.any() else 0
