"""Which TIFF files Pillow reads correctly; it scrambles the others silently."""

from __future__ import annotations

from typing import Any

from PIL import Image

_BLACK_IS_ZERO, _YCBCR = 1, 6
_PLAIN = (0, 1, 2, 3)
_SEPARATED = (5, 6, 8)  # CMYK, YCbCr, Lab
_RAW_PHOTOMETRICS = (32803, 34892)  # colour filter array, LinearRaw
_UNCOMPRESSED = 1


def pillow_reads_right(image: Image.Image) -> str | None:
    """Return None if Pillow reads an opened TIFF correctly, else the reason to reject it."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(258, (1,))
    bits = tuple(bits) if isinstance(bits, tuple) else (bits,)
    photometric, planar, compression = tags.get(262), tags.get(284, 1), tags.get(259, 1)
    halved = tuple(tags.get(530, (2, 2)))
    if tags.get(254, 0) & 1:
        return "its first page is a reduced picture"
    if photometric in _RAW_PHOTOMETRICS or 330 in tags:
        return "it holds more than its first page shows"
    if photometric in _PLAIN:
        if set(bits) - {1, 2, 4, 8, 16} or set(tags.get(339, (1,))) - {1}:
            return f"it has {max(bits)} bits per channel of an unusual kind"
        if max(bits) == 16 and (len(bits) > 1 or photometric != _BLACK_IS_ZERO):
            return "it has 16 bits per channel"
        if max(bits) < 8 and len(bits) > 1:
            return f"it has {max(bits)} bits per channel"
        if planar == 2 and len(bits) > 1:
            return "its channels are stored in planes"
    if photometric in _SEPARATED:
        if set(bits) != {8} or set(tags.get(339, (1,))) - {1}:
            return f"it has {max(bits)} bits per channel"
        if planar == 2:
            return "its channels are stored in planes"
        if photometric == _YCBCR and compression == _UNCOMPRESSED and halved != (1, 1):
            return "its colours have a lower resolution than its brightness"
    # Pillow maps an uncompressed file with swapped sides before it rotates it.
    if tags.get(274, 1) in (5, 6, 7, 8) and compression == _UNCOMPRESSED:
        return "it is stored on its side"
    return None
