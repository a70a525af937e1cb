"""TIFF files whose colours are not RGB: CMYK, Lab and YCbCr, converted to RGB with 8 bits by Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from . import profiles
from .samples import Samples

CMYK, YCBCR, CIELAB, ICCLAB = 5, 6, 8, 9
CONVERTED = (CMYK, YCBCR, CIELAB, ICCLAB)
_INK_SET, _CMYK_INKS = 332, 1
_STRAIGHT_ALPHA = 2


def converted(
    path: Path, page: Any, values: NDArray, orientation: int, notes: list[str]
) -> Samples:
    """Convert decoded values to RGB.

    Args:
        page: the page of tifffile, for its tags.
        values: (H, W, channels), uint8 or uint16 over their full range; a and b of Lab as stored.
        notes: extended by what the user should see.

    Raises:
        ImageError: for inks other than CMYK, or too few channels.
    """
    photometric = int(page.photometric)
    wanted = 4 if photometric == CMYK else 3
    inks = page.tags.get(_INK_SET)
    if values.shape[-1] < wanted or (
        photometric == CMYK and inks is not None and int(inks.value) != _CMYK_INKS
    ):
        raise ImageError(f"{path} holds inks other than CMYK. Save it as RGB.")
    if values.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{path} holds CMYK or Lab in floating point. Save it as RGB.")
    color, alpha = values[..., :wanted], None
    for index, kind in enumerate(page.extrasamples):
        if int(kind) == _STRAIGHT_ALPHA and wanted + index < values.shape[-1]:
            alpha = values[..., wanted + index]
    if values.shape[-1] > wanted and alpha is None:
        notes.append("has an extra channel that is not declared as transparency, which was ignored")
    samples = _rgb(color, photometric, page.iccprofile, notes)
    samples.alpha = None if alpha is None else _as_8_bits(alpha)
    samples.orientation, samples.notes = orientation, notes
    return samples


def _rgb(color: NDArray, photometric: int, profile: bytes | None, notes: list[str]) -> Samples:
    if photometric == CMYK:
        image = _image(_as_8_bits(color), "CMYK")
        return Samples(np.asarray(cmyk_to_rgb(image, profile, notes)), converted=True)
    if photometric == YCBCR:
        rgb = np.asarray(_image(_as_8_bits(color), "YCbCr").convert("RGB"))
        return Samples(rgb, icc_profile=profile)
    return Samples(
        np.asarray(lab_to_rgb(_image(_lab(color, photometric), "LAB"), notes)), converted=True
    )


def cmyk_to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Convert a picture of Pillow's mode CMYK to sRGB, by its profile if that is usable, and note which way."""
    if profiles.color_space(profile) == "CMYK":
        assert profile is not None
        try:
            rgb = profiles.to_srgb(image, profile)
        except profiles.UNUSABLE:
            pass  # a damaged profile: the plain formula below, with a note
        else:
            notes.append("is a CMYK picture, converted to sRGB through its colour profile")
            return rgb
    notes.append(
        "is a CMYK picture without a usable colour profile, converted by the plain formula"
    )
    return image.convert("RGB")


def lab_to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Convert a picture of Pillow's mode LAB to sRGB."""
    notes.append("is a Lab picture, converted to sRGB")
    return profiles.lab_to_srgb(image)


def _lab(color: NDArray, photometric: int) -> NDArray[np.uint8]:
    """Return Lab as Pillow stores it: L of 0 to 255, a and b as signed bytes. See TIFF 6.0, section 23, and the
    technical note on ICC Lab of TIFF/EP: there a and b are offset by 128, and 16 bits hold 255 as 0xFF00.
    """
    light, others = color[..., :1], color[..., 1:]
    if color.dtype == np.uint16:
        if photometric == ICCLAB:
            parts = [np.rint(np.minimum(part / 256.0, 255)) for part in (light, others)]
            light, others = (part.astype(np.uint8) for part in parts)
        else:
            light = _as_8_bits(light)
            signed = np.rint(others.view(np.int16) / 256.0)
            others = np.clip(signed, -128, 127).astype(np.int8).view(np.uint8)
    if photometric == ICCLAB:
        others = others ^ np.uint8(128)  # less 128, as signed bytes
    return np.concatenate([light, others], axis=-1).astype(np.uint8)


def _as_8_bits(values: NDArray) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    return np.rint(values / 257.0).astype(np.uint8)


def _image(values: NDArray[np.uint8], mode: str) -> Image.Image:
    """Return an image of a mode from bytes (H, W, channels)."""
    height, width = values.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(values).tobytes())
