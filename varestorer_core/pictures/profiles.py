"""Colour profiles (ICC).

An RGB picture keeps its values and its profile: the model restores the values and the result
carries the same profile, so a colour-managed viewer shows the same colours and nothing is clipped
to a smaller gamut. The command's pixels also equal those of ComfyUI, whose loader does not convert
either. An RGB file cannot hold other colour spaces (CMYK, grey, Lab), so they are converted to sRGB.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ..color_space import srgb_to_linear
from .curves import Curve, neutral_curve, srgb_curve
from .samples import to_unit

_SAME_CURVE = 0.5 / 255
"""Largest difference of a tone curve from that of sRGB that counts as rounding."""
UNUSABLE = ImageCms.PyCMSError
"""The error for profiles that cannot be used."""
_LOSSLESS_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC


def color_space(profile: bytes | None) -> str | None:
    """Return the colour space ("RGB", "GRAY", "CMYK", ...) of a profile; None if absent or damaged."""
    # ICC.1:2022, table 18: bytes 16-19 name the colour space, bytes 36-39 are the signature.
    if profile is None or len(profile) < 128 or profile[36:40] != b"acsp":
        return None
    return profile[16:20].decode("ascii", "replace").strip()


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture to sRGB through its profile.

    Raises:
        ImageCms.PyCMSError: if the profile cannot be used.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return _converted(image, source)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Convert a picture of Pillow's mode LAB to sRGB."""
    return _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))


def grey_to_srgb(samples: NDArray, profile: bytes) -> NDArray | None:
    """Convert neutral samples, unsigned integers or float32 in [0, 1], to the tone curve of sRGB by their profile.

    Args:
        profile: a grey profile, or the RGB profile of samples whose channels are equal.

    Returns:
        float32 in [0, 1] of the same shape; `samples` itself if the curve is that of sRGB; None if the profile cannot
        be used.
    """
    curve = neutral_curve(profile) or _measured_curve(profile)
    if curve is None:
        return None
    levels = np.linspace(0, 1, 256, dtype=np.float32)
    if np.abs(_toned(curve, levels) - levels).max() < _SAME_CURVE:
        return samples
    return _toned(curve, to_unit(samples))


def _toned(curve: Curve, values: NDArray[np.float32]) -> NDArray[np.float32]:
    return srgb_curve(np.clip(curve(values), 0, 1))


def _measured_curve(profile: bytes) -> Curve | None:
    """Return the curve of a profile that converts by tables, through the 256 levels that Pillow converts."""
    levels = np.arange(256, dtype=np.uint8)[None]
    ramp = Image.fromarray(levels)
    ramp = ramp if color_space(profile) == "GRAY" else ramp.convert("RGB")
    try:
        shown = np.asarray(to_srgb(ramp, profile))[0].mean(axis=1) / 255
    except UNUSABLE:
        return None
    light = srgb_to_linear(torch.tensor(shown)).numpy()
    return lambda values: np.interp(values, levels[0] / 255, light).astype(np.float32)


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    result = ImageCms.profileToProfile(
        image, source, target, renderingIntent=_LOSSLESS_INTENT, outputMode="RGB"
    )
    assert result is not None  # only an in-place conversion returns nothing
    return result
