"""Small picture files as written by other programs, and comparisons with the picture in them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from varestorer_core.pictures import read_picture, to_uint8

CASES = Path(__file__).parents[1] / "data" / "pictures"
BASE = np.asarray(Image.open(CASES / "base.png").convert("RGB")).astype(float)
GREY = np.asarray(Image.open(CASES / "base.png").convert("L")).astype(float)
NEAR = 2.0


def read(name):
    return read_picture(CASES / name)


def values(picture):
    """Return (H, W, 3) of 0 to 255."""
    return picture.rgb.numpy().transpose(1, 2, 0) * 255.0


def srgb_values(picture):
    """Return the colours as sRGB, through the picture's profile."""
    image = Image.fromarray(to_uint8(picture.rgb))
    if picture.icc_profile is not None:
        source = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc_profile))
        image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    return np.asarray(image).astype(float)


def distance(a, b):
    return np.abs(a - b).mean()
