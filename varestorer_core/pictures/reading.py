"""Reading of picture files as upright RGB in [0, 1], with what a result needs to be stored in the same way."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from ..errors import ImageError
from . import netpbm, profiles, raw, tiff
from .decoding import Source, apply_color_tags, decoded, orientation
from .metadata import page_metadata, read_metadata, turned_metadata
from .opening import (
    RAW,
    check_file,
    is_tiff,
    open_image,
    panics_as_errors,
    starts_with,
    unreadable,
)
from .picture import Metadata, Picture
from .samples import Samples, grey_as_rgb, to_tensor
from .tiff_by_pillow import pillow_reads_right
from .transparency import fill_hidden

_EXCERPT = 200
_OTHER_TONES = (
    "is grey and has a colour profile, through which it was converted to the tones of sRGB"
)


def read_picture(path: str | Path) -> Picture:
    """Read a picture file, turned upright by its EXIF orientation.

    PNG, TIFF and Netpbm files keep their 16 bits; other formats are read with 8. Of several frames, the first is read;
    of a TIFF file that starts with a reduced picture, the largest.

    Raises:
        ImageError: if the file is missing, no picture, damaged, larger than `opening.MAX_PIXELS`, or of a kind that
            cannot be read right.
    """
    path = Path(path)
    check_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns about damage that does not change the pixels.
            warnings.simplefilter("ignore")
            with panics_as_errors():
                return _read(path)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{path} cannot be read: there is not enough memory for it. Close other programs, or reduce the picture."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise unreadable(path) from error
    except Exception as error:
        # Decoders raise errors of every class on damaged files.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_EXCERPT]
        raise ImageError(
            f"{path} is damaged or incomplete and cannot be read ({reason}). Copy it again, or save it as PNG in "
            "another program."
        ) from error


def _read(path: Path) -> Picture:
    if path.suffix.lower() in RAW:
        return _read_raw(path)
    samples = netpbm.read(path)
    if samples is not None:
        return _picture(samples, Metadata())
    if is_tiff(starts_with(path, 4)):
        return _read_tiff(path)
    source = Source(path)
    with source.open() as image:
        samples = decoded(source, image)
        # Read after decoding: a PNG file may store metadata after its pixels.
        return _picture(samples, read_metadata(image))


def _read_raw(path: Path) -> Picture:
    samples, metadata = raw.read(path), Metadata()
    if is_tiff(starts_with(path, 4)):
        try:
            with open_image(path, path) as image:
                metadata = page_metadata(image, samples.page)
        except Exception as error:  # the metadata must not prevent reading the picture
            _ = error
    return _picture(samples, metadata)


def _read_tiff(path: Path) -> Picture:
    reason = ""
    try:
        samples = tiff.read(path)
    except tiff.UnsupportedLayoutError as unsupported:
        samples, reason = None, str(unsupported)
    try:
        image = open_image(path, path)
    except Image.UnidentifiedImageError as error:
        if samples is None:
            raise ImageError(
                f"{path} is a TIFF file that cannot be read: {reason}. {_way_out(reason)}"
            ) from error
        return _picture(samples, Metadata())
    except Exception:
        if samples is None:
            raise
        return _picture(samples, Metadata())
    with image:
        if samples is not None:
            apply_color_tags(samples, image, path)
            return _picture(samples, page_metadata(image, samples.page))
        refused = pillow_reads_right(image)
        if refused is not None:
            raise ImageError(
                f"{path} cannot be read correctly: {refused} ({reason}). {_way_out(reason)}"
            )
        metadata, turned = read_metadata(image), orientation(image)
        samples = decoded(Source(path), image)
        samples.orientation = 1  # Pillow has rotated it already
        return _picture(samples, turned_metadata(metadata, turned))


def _way_out(reason: str) -> str:
    """Return what to do about a TIFF file that cannot be read for this reason."""
    if "tifffile" in reason:
        return "pip install tifffile imagecodecs, or save it as PNG."
    if "imagecodecs" in reason:
        return "pip install imagecodecs, or save it as PNG."
    return "Save it as PNG."


def _picture(samples: Samples, metadata: Metadata) -> Picture:
    profile = samples.icc_profile
    if profile is not None and samples.grey and profiles.color_space(profile) in ("GRAY", "RGB"):
        # A grey file holds no profile of ours.
        stored = samples.color[..., 0]
        light = profiles.grey_to_srgb(stored, profile)
        if light is not None:
            samples.color, profile = grey_as_rgb(light), None
            samples.notes += [_OTHER_TONES] * (light is not stored)
    if profile is not None and profiles.color_space(profile) != "RGB":
        samples.notes.append("has a damaged or unsuitable colour profile, which was ignored")
        profile = None
    metadata = turned_metadata(metadata, samples.orientation)
    samples.upright()
    rgb = to_tensor(samples.color)
    alpha = None if samples.alpha is None else to_tensor(samples.alpha[..., None])
    return Picture(
        rgb=rgb if alpha is None else fill_hidden(rgb, alpha),
        alpha=alpha,
        bit_depth=samples.bit_depth,
        icc_profile=profile,
        notes=tuple(samples.notes),
        grey=samples.grey,
        metadata=metadata,
    )


def without_metadata(picture: Picture) -> Picture:
    """Return a picture with its pixels and colour profile alone."""
    return replace(picture, metadata=Metadata())


def without_colors(picture: Picture) -> Picture:
    """Return a picture of equal channels as a grey one, whose tones are those of sRGB instead of its profile."""
    profile = picture.icc_profile
    if profile is None:
        return replace(picture, grey=True)
    stored = picture.rgb.numpy()
    light = profiles.grey_to_srgb(stored, profile)
    if light is None or light is stored:
        return replace(picture, grey=True, icc_profile=None)
    notes = (*picture.notes, _OTHER_TONES)
    return replace(picture, rgb=torch.from_numpy(light), grey=True, icc_profile=None, notes=notes)
