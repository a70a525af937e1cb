"""JPEG files whose last bytes are missing: read what is there, as long as most of the picture is."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

_END = b"\xff\xd9"
_PROBE = 64
"""Bytes left out of a second decoding; the two results differ where the file ends."""
_MOST_MISSING = 8
"""A picture is read if no more than this fraction (1 / 8) of its rows is missing."""


def read_cut(
    content: bytes, opened: Callable[[io.BytesIO], Image.Image]
) -> tuple[Image.Image, str] | None:
    """Return the loaded picture of a JPEG file that ends too early, and a note; None if too much of it is missing.

    Raises:
        Exception: whatever Pillow raises for other damage.
    """
    image = opened(io.BytesIO(content + _END))
    image.load()
    note = "ends too early: what is missing"
    if image.info.get("progressive"):
        return image, f"{note} are its finest details"
    with opened(io.BytesIO(content[:-_PROBE] + _END)) as shorter:
        differs = (np.asarray(image) != np.asarray(shorter)).reshape(image.height, -1).any(axis=1)
    missing = image.height - int(differs.argmax()) if differs.any() else 0
    if missing > max(16, image.height // _MOST_MISSING):
        return None
    return image, f"{note} at the bottom is filled in"
