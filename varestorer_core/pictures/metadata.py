"""Resolution, EXIF, XMP and IPTC of a file, as far as they remain valid for a restored picture.

Dropped: the orientation, which is applied; the thumbnail, which is old; offsets, sizes and the maker's notes, which are
meaningless in another file. Damaged metadata never prevents reading the picture.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from PIL import Image

from .picture import Metadata

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
# Description, make, model, software, date, artist, host, rating, copyright, Windows' XP texts.
_KEPT = frozenset({270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432})
_KEPT_XP = range(40091, 40096)
# Maker's notes, pixel dimensions, the interoperability IFD (the profile carries more).
_DROPPED = frozenset({37500, 40962, 40963, 40965})
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", re.DOTALL)
_IPTC_RESOURCE, _IPTC_TAG, _XMP_TAG = 0x0404, 33723, 700
_CENTIMETRES = 3
_LIMIT = 1 << 24
"""Most bytes of metadata that are carried over."""
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


def read_metadata(image: Image.Image) -> Metadata:
    """Return the metadata of an opened picture."""
    return Metadata(
        dpi=_tried(_dpi, image),
        exif=_tried(_exif, image),
        xmp=_tried(_xmp, image),
        iptc=_tried(_iptc, image),
    )


def page_metadata(image: Image.Image, page: int | None) -> Metadata:
    """Return the metadata of a page of an opened TIFF file.

    What the page lacks is that of the first page, which shows the same picture, except for the resolution.

    Args:
        page: index of the page; None for a page inside the first, which Pillow cannot open.
    """
    first = read_metadata(image)
    if page == 0:
        return first
    own = Metadata()
    if page is not None:
        try:
            image.seek(page)
        except _DAMAGE:
            pass
        else:
            own = read_metadata(image)
    return Metadata(own.dpi, own.exif or first.exif, own.xmp or first.xmp, own.iptc or first.iptc)


def turned_metadata(metadata: Metadata, orientation: int) -> Metadata:
    """Return the metadata of a picture after its EXIF orientation was applied."""
    if metadata.dpi is None or orientation not in (5, 6, 7, 8):
        return metadata
    return replace(metadata, dpi=(metadata.dpi[1], metadata.dpi[0]))


def _tried(read: Any, image: Image.Image) -> Any:
    try:
        return read(image)
    except _DAMAGE:
        return None
    except Exception as error:  # struct.error and anything else that Pillow's parsers raise
        _ = error
        return None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    tags: Any = getattr(image, "tag_v2", None)
    found = image.info.get("dpi")
    if tags is None and found is None:
        tags = image.getexif()  # formats without a resolution of their own, such as WebP and AVIF
    if tags is not None:
        # Pillow reports 1 if a TIFF file has no unit.
        unit, values = tags.get(296, 2), (tags.get(282), tags.get(283))
        if None in values or unit not in (2, _CENTIMETRES):
            return None
        found = tuple(float(v) * (2.54 if unit == _CENTIMETRES else 1) for v in values)
    if found is None:
        return None
    across, down = float(found[0]), float(found[1])
    return (across, down) if 1 < across < 1e5 and 1 < down < 1e5 else None


def _exif(image: Image.Image) -> bytes | None:
    found, kept = image.getexif(), Image.Exif()
    for tag, value in found.items():
        if tag in _KEPT or tag in _KEPT_XP:
            kept[tag] = value
    details = {k: v for k, v in found.get_ifd(_EXIF_IFD).items() if k not in _DROPPED}
    if details:
        kept[_EXIF_IFD] = details
    if place := dict(found.get_ifd(_GPS_IFD)):
        kept[_GPS_IFD] = place
    if not len(kept):
        return None
    content = kept.tobytes()
    content = content if content.startswith(b"Exif\0\0") else b"Exif\0\0" + content
    return content if len(content) < _LIMIT else None


def _xmp(image: Image.Image) -> bytes | None:
    tags: Any = getattr(image, "tag_v2", {})
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or tags.get(_XMP_TAG)
    if not found:
        return None
    content = found.encode() if isinstance(found, str) else bytes(found)
    return _XMP_ORIENTATION.sub(rb"\g<1>1", content) if len(content) < _LIMIT else None


def _iptc(image: Image.Image) -> bytes | None:
    tags: Any = getattr(image, "tag_v2", {})
    resources = image.info.get("photoshop")
    found = resources.get(_IPTC_RESOURCE) if isinstance(resources, dict) else tags.get(_IPTC_TAG)
    return found if isinstance(found, bytes) and 0 < len(found) < _LIMIT else None
