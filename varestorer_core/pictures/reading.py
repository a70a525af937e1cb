"""Read a picture file as upright RGB in [0, 1], with what is needed to write it back alike."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

from ..errors import ImageError
from . import png16, profiles

_ENDINGS = ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .png .ppm .tga .tif .tiff .webp"
READABLE = frozenset(_ENDINGS.split())
"""Endings of the files in a folder that are pictures; a file given by name is always tried."""

MAX_PIXELS = 178_956_970
"""Pictures with more pixels are refused (Pillow's own limit against decompression bombs)."""

# What Pillow's decoders raise on damaged files, by reading and by trying.
_DECODER_ERRORS = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 0x0102  # TIFF tag


@dataclass(frozen=True)
class Picture:
    """A picture as the pipeline takes it, and how its file stored it."""

    rgb: Tensor
    """(3, H, W) float32 in [0, 1]; for an 8-bit RGB file exactly its values / 255."""
    alpha: Tensor | None = None
    """(1, H, W) float32 in [0, 1], not multiplied into `rgb`; None for an opaque format."""
    bit_depth: int = 8
    """8 or 16 bits per channel."""
    icc_profile: bytes | None = None
    """RGB profile in which `rgb` is to be understood; None means sRGB."""
    notes: tuple[str, ...] = ()
    """Remarks that the user should see: what was left out or converted."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[-2], self.rgb.shape[-1]


def read_picture(path: str | Path) -> Picture:
    """Read a picture file in any format that Pillow knows, turned upright by its EXIF orientation.

    PNG files keep their 16 bits, other formats are read with 8. Of several frames the first is
    read. Grey pictures come back with three equal channels.

    Raises:
        ImageError: if the file is missing, no picture, damaged, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            # Our own limit below takes the place of Pillow's warning.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _read(path)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not a picture that can be read. PNG, JPEG, WebP, TIFF and BMP files are."
        ) from error
    except _DECODER_ERRORS as error:
        raise ImageError(
            f"{path} is damaged or incomplete and cannot be read ({error})."
        ) from error


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ImageError(f"{path} is a folder, a picture file was expected.")
    if not path.exists():
        raise ImageError(f"{path} does not exist.")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes), a picture was expected.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ImageError(f"{path} cannot be opened: {error.strerror or error}.") from error


def _too_large(path: Path, size: tuple[int, int] | None = None) -> ImageError:
    got = f" ({size[0]} x {size[1]})" if size else ""
    return ImageError(
        f"{path} has too many pixels{got}: the limit is {MAX_PIXELS / 1e6:.0f} megapixels. "
        "Cut or reduce the picture first."
    )


def _read(path: Path) -> Picture:
    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(path, image.size)
        if not image.width or not image.height:
            raise ImageError(f"{path} is {image.width} x {image.height}, so it holds no pixels.")
        frames = getattr(image, "n_frames", 1)
        notes = [f"holds {frames} frames, only the first is restored"] if frames > 1 else []
        bit_depth = 16
        if png16.is_deep(image):
            with Image.open(path) as low:
                samples = png16.decode(image, low)
            rgb, alpha, profile = _deep_channels(samples, image)
        elif image.mode == "I" or image.mode.startswith("I;16"):
            rgb, alpha, profile = _deep_channels(_deep_grey(path, image), image)
        else:
            rgb, alpha, profile = _channels(path, image, notes)
            bit_depth = 8
        orientation = _orientation(image)
    if profile is not None and profiles.color_space(profile) != "RGB":
        notes.append("has a damaged or unsuitable colour profile, which was ignored")
        profile = None
    rgb = _upright(rgb, orientation)
    alpha = None if alpha is None else _upright(alpha, orientation)
    return Picture(
        rgb=_to_tensor(rgb),
        alpha=None if alpha is None else _to_tensor(alpha[..., None]),
        bit_depth=bit_depth,
        icc_profile=profile,
        notes=tuple(notes),
    )


# Samples (H, W, 3) and alpha (H, W), each as integers or as float32 in [0, 1]; then the profile.
_Channels = tuple[NDArray, "NDArray | None", "bytes | None"]


def _channels(path: Path, image: Image.Image, notes: list[str]) -> _Channels:
    """Return the channels of a picture with 8 bits or fewer."""
    if image.mode == "F":
        raise ImageError(
            f"{path} holds floating-point values. Save it with 8 or 16 bits per channel."
        )
    bits = np.max(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8))
    if bits > 8:
        notes.append(f"has {bits} bits per channel, read as 8 (16 bits are kept for PNG only)")
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        return np.asarray(_cmyk_to_rgb(image, profile, notes)), None, None
    if image.mode == "LAB":
        notes.append("is a Lab picture, converted to sRGB")
        return np.asarray(profiles.lab_to_srgb(image)), None, None
    transparent = "transparency" in image.info or "A" in image.getbands()
    samples = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    rgb, alpha = samples[..., :3], samples[..., 3] if transparent else None
    if image.mode in ("1", "L", "LA"):
        rgb, profile = _grey_to_rgb(rgb[..., 0], profile)
    return rgb, alpha, profile


def _deep_channels(samples: NDArray[np.uint16], image: Image.Image) -> _Channels:
    """Return the channels of 16-bit samples (H, W, 1 to 4)."""
    profile, key = image.info.get("icc_profile"), image.info.get("transparency")
    alpha = None
    if samples.shape[2] in (2, 4):
        samples, alpha = samples[..., :-1], samples[..., -1]
    elif key is not None:  # one colour of the picture is transparent
        alpha = np.where((samples == key).all(axis=2), 0, 65535).astype(np.uint16)
    if samples.shape[2] == 1:
        rgb, profile = _grey_to_rgb(samples[..., 0], profile)
        return rgb, alpha, profile
    return samples, alpha, profile


def _deep_grey(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    """Return the samples (H, W, 1) of a grey picture with 16 bits, which Pillow reads whole."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{path} holds 32-bit integers. Save it with 8 or 16 bits per channel.")
    return values.astype(np.uint16)[..., None]


def _grey_to_rgb(samples: NDArray, profile: bytes | None) -> tuple[NDArray, bytes | None]:
    """Return grey samples (H, W) as RGB, and the profile that is still to be reckoned with."""
    if profiles.color_space(profile) == "GRAY":
        assert profile is not None
        try:
            return profiles.grey_to_srgb(samples, profile), None
        except ImageCms.PyCMSError:
            pass  # a damaged profile: left to the caller, who says that it was ignored
    return np.repeat(samples[..., None], 3, axis=2), profile


def _cmyk_to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profiles.color_space(profile) == "CMYK":
        assert profile is not None
        try:
            converted = profiles.to_srgb(image, profile)
        except ImageCms.PyCMSError:
            pass  # a damaged profile: the plain formula below, and the note says so
        else:
            notes.append("is a CMYK picture, converted to sRGB through its colour profile")
            return converted
    notes.append(
        "is a CMYK picture without a usable colour profile, converted by the plain formula"
    )
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _DECODER_ERRORS:
        return 1  # damaged EXIF must not cost the picture


def _upright(array: NDArray, orientation: int) -> NDArray:
    """Turn an array (H, W, ...) upright; the numbers 1 to 8 are those of the EXIF standard."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def _to_tensor(array: NDArray) -> Tensor:
    """Return (channels, H, W) float32 in [0, 1] of (H, W, channels) samples."""
    values = array.astype(np.float32)
    if array.dtype != np.float32:
        # The same division in the same precision as ComfyUI's loader, so both give the same
        # numbers.
        values = values / np.float32(np.iinfo(array.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))
