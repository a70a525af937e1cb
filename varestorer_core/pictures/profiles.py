"""Colour profiles (ICC).

An RGB picture keeps its values and its profile: the model restores the values and the result
carries the same profile, so a colour-managed viewer shows the same colours and nothing is clipped
to a smaller gamut. The command's pixels also equal those of ComfyUI, whose loader does not convert
either. An RGB file cannot hold other colour spaces (CMYK, grey, Lab), so they are converted to sRGB.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_LOSSLESS_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC


def color_space(profile: bytes | None) -> str | None:
    """Return the colour space ("RGB", "GRAY", "CMYK", ...) of a profile; None if absent or damaged."""
    # ICC.1:2022, table 18: bytes 16-19 name the colour space, bytes 36-39 are the signature.
    if profile is None or len(profile) < 128 or profile[36:40] != b"acsp":
        return None
    return profile[16:20].decode("ascii", "replace").strip()


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert a CMYK picture to sRGB through its profile.

    Raises:
        ImageCms.PyCMSError: if the profile cannot be used.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return _converted(image, source)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Convert a picture of Pillow's mode LAB to sRGB."""
    return _converted(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))


def grey_to_srgb(samples: NDArray, profile: bytes) -> NDArray[np.float32]:
    """Convert grey samples (H, W), unsigned integers or float32 in [0, 1], to sRGB (H, W, 3) in [0, 1] through their
    profile.

    littlecms returns 8 bits per channel here; the curve is interpolated between its 256 values.

    Raises:
        ImageCms.PyCMSError: if the profile cannot be used.
    """
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    curve = np.asarray(to_srgb(ramp, profile))[0].astype(np.float32) / 255  # (256, 3)
    top = 1 if samples.dtype == np.float32 else np.iinfo(samples.dtype).max
    position = samples.astype(np.float32) * (255 / top)
    channels = [np.interp(position, np.arange(256), curve[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _converted(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.createProfile("sRGB")
    result = ImageCms.profileToProfile(
        image, source, target, renderingIntent=_LOSSLESS_INTENT, outputMode="RGB"
    )
    assert result is not None  # only an in-place conversion returns nothing
    return result
