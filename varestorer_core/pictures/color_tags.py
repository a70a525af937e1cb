"""Colours that a file declares without an ICC profile: PNG's cICP, sRGB, gAMA and cHRM; HEIC's and AVIF's nclx; EXIF's
Adobe RGB mark.

The meaning is kept: other primaries become an equivalent profile, and another transfer curve is converted to that of
sRGB, on which the model was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import boxes, icc, png_chunks
from .curves import Curve, srgb_curve

_EXIF_IFD, _INTEROP_IFD, _INTEROP_INDEX = 0x8769, 0xA005, 1
_PRIMARIES = {1: icc.SRGB_PRIMARIES, 9: icc.BT2020_PRIMARIES, 12: icc.P3_PRIMARIES}
_NAMES = {9: "BT.2020 with the sRGB curve", 12: "Display P3"}
_LIKE_SRGB = (5, 6)
"""Primaries of SD video, which differ little from those of sRGB."""
_UNSPECIFIED = 2
_BOXED = ("HEIF", "AVIF")
"""Formats whose colours are declared in a box, by Pillow's names."""
_SAME_GAMMA = 0.01
"""Largest difference of a gAMA from 1 / 2.2 that counts as rounding."""


@dataclass(frozen=True)
class ColorTags:
    """How to interpret samples without a profile."""

    icc_profile: bytes | None = None
    """Profile of the samples after `to_srgb_curve`; None for the primaries of sRGB."""
    to_srgb_curve: Curve | None = None
    """Converts samples in [0, 1] to the transfer curve of sRGB; None if they have it already."""
    note: str | None = None
    followed: bool = True
    """Whether the tags determine the colours, all of which were converted."""


def color_tags(image: Image.Image, path: Path, icc_profile: bytes | None) -> ColorTags | None:
    """Return the colour tags of an opened picture; None if its ICC profile, if any, is the only one.

    The code points of PNG's cICP take precedence over a profile, if they can be followed; all other tags do not.
    """
    chunks = png_chunks.header_chunks(path)
    points = chunks.get(b"cICP", b"")
    coded = _from_code_points(*points, source="cICP") if len(points) == 4 else None
    if icc_profile is not None:
        return coded if coded is not None and coded.followed else None
    try:
        if coded is not None:
            return coded
        if image.format in _BOXED and (points := boxes.code_points(path)) is not None:
            # The matrix and the range were applied by the decoder.
            return _from_code_points(points.primaries, points.transfer, 0, 1, "nclx")
        if b"sRGB" in chunks:
            return ColorTags()
        if b"gAMA" in chunks or b"cHRM" in chunks:
            return _from_gamma(chunks)
        if _is_adobe_rgb(image):
            profile = icc.rgb_profile(
                "Adobe RGB (1998) compatible", icc.ADOBE_PRIMARIES, gamma=icc.ADOBE_GAMMA
            )
            return ColorTags(
                profile,
                note="is Adobe RGB by its EXIF data; the result carries an equivalent profile",
            )
    except (ArithmeticError, LookupError, TypeError, ValueError):
        pass  # damaged tags must not prevent reading the picture
    else:
        return ColorTags()
    return ColorTags(note="has damaged colour tags, which were ignored")


def _from_code_points(
    primaries: int, transfer: int, matrix: int, full_range: int, source: str = "cICP"
) -> ColorTags:
    """See ITU-T H.273 for the code points."""
    if source == "nclx" and primaries in (_UNSPECIFIED, *_LIKE_SRGB):
        primaries = 1  # decoders interpret SD video and files that say nothing like this, too
    if source == "nclx" and transfer == _UNSPECIFIED:
        transfer = 13
    if matrix != 0 or full_range != 1 or primaries not in _PRIMARIES:
        return ColorTags(
            note=f"has colours ({source} primaries {primaries}) that are not converted",
            followed=False,
        )
    profile = None
    if primaries in _NAMES:
        profile = icc.rgb_profile(_NAMES[primaries], _PRIMARIES[primaries])
    note = None
    if profile is not None:
        note = f"is {_NAMES[primaries]} by its {source}; the result carries an equivalent profile"
    if transfer in (1, 6, 13, 14, 15):  # BT.709 is displayed like sRGB
        return ColorTags(profile, note=note)
    if transfer in (4, 5, 8):
        exponent = {4: 2.2, 5: 2.8, 8: 1.0}[transfer]
        return ColorTags(profile, _power(exponent), _converted(1 / exponent))
    return ColorTags(
        profile,
        note=f"has a transfer curve ({source} {transfer}) that is not converted",
        followed=False,
    )


def _from_gamma(chunks: dict[bytes, bytes]) -> ColorTags:
    profile, curve, note = None, None, None
    if b"cHRM" in chunks:
        numbers = [v / 100_000 for v in png_chunks.integers(chunks[b"cHRM"], 8)]
        white, *primaries = [(numbers[i], numbers[i + 1]) for i in range(0, 8, 2)]
        standard = np.abs(np.subtract(primaries, icc.SRGB_PRIMARIES)).max() < 0.005
        if not standard or np.abs(np.subtract(white, icc.D65)).max() > 0.005:
            red, green, blue = primaries
            profile = icc.rgb_profile("from cHRM, sRGB curve", (red, green, blue), white)
            note = "has primaries of its own (cHRM); the result carries an equivalent profile"
    if b"gAMA" in chunks:
        gamma = png_chunks.integers(chunks[b"gAMA"], 1)[0] / 100_000
        if not 0.05 <= gamma <= 5:
            raise ValueError(gamma)
        if abs(gamma - 1 / 2.2) > _SAME_GAMMA:
            curve, note = _power(1 / gamma), _converted(gamma)
    return ColorTags(profile, curve, note)


def _converted(gamma: float) -> str:
    return f"has gamma {gamma:.3g} (sRGB has about 0.455), converted to the curve of sRGB"


def _power(exponent: float) -> Curve:
    return lambda samples: srgb_curve(np.clip(samples, 0, 1) ** np.float32(exponent))


def _is_adobe_rgb(image: Image.Image) -> bool:
    """See "Design rule for Camera File system" 2.0, DCF optional file: InteropIndex R03."""
    interop = image.getexif().get_ifd(_EXIF_IFD).get(_INTEROP_IFD)
    if not isinstance(interop, dict):
        interop = image.getexif().get_ifd(_INTEROP_IFD)
    return str(interop.get(_INTEROP_INDEX, "")).strip("\0 ") == "R03"
