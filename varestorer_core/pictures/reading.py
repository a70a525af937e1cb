"""Reading of picture files as upright RGB in [0, 1], with what a result needs to be stored in the same way."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from ..errors import ImageError
from . import jpeg_tail, netpbm, png16, png_chunks, profiles, raw, tiff
from .color_tags import color_tags
from .metadata import read_metadata
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
from .samples import Samples, grey_as_rgb, to_tensor, to_unit
from .transparency import fill_hidden

_ORIENTATION = 0x0112  # EXIF tag
_OFTEN_EMPTY_ALPHA = ("BMP", "DIB", "TGA")
"""Formats whose writers often leave the fourth channel at 0."""
_EXCERPT = 200


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
            f"{path} is damaged or incomplete and cannot be read ({reason})."
        ) from error


def _read(path: Path) -> Picture:
    if path.suffix.lower() in RAW:
        return _picture(raw.read(path), Metadata())
    samples = netpbm.read(path)
    if samples is not None:
        return _picture(samples, Metadata())
    if is_tiff(starts_with(path, 4)):
        return _read_tiff(path)
    with _opened(path) as image:
        samples = _decoded(path, image)
        # Read after decoding: a PNG file may store metadata after its pixels.
        return _picture(samples, read_metadata(image))


def _read_tiff(path: Path) -> Picture:
    reason = ""
    try:
        samples = tiff.read(path)
    except tiff.UnsupportedLayoutError as unsupported:
        samples, reason = None, str(unsupported)
    except (ImageError, MemoryError):
        raise
    try:
        image = open_image(path, path)
    except Image.UnidentifiedImageError as error:
        if samples is None:
            raise ImageError(f"{path} is a TIFF file that cannot be read: {reason}.") from error
        return _picture(samples, Metadata())
    except Exception:
        if samples is None:
            raise
        return _picture(samples, Metadata())
    with image:
        metadata = read_metadata(image)
        if samples is None:
            refused = tiff.pillow_reads_right(image)
            if refused is not None:
                raise ImageError(
                    f"{path} cannot be read right: {refused} ({reason}). "
                    "pip install tifffile imagecodecs, or save it as PNG."
                )
            samples = _decoded(path, image)
            samples.orientation = 1  # Pillow has rotated it already
        return _picture(samples, metadata)


def _picture(samples: Samples, metadata: Metadata) -> Picture:
    profile = samples.icc_profile
    if profile is not None and samples.grey and profiles.color_space(profile) == "GRAY":
        try:
            light = profiles.grey_to_srgb(samples.color[..., 0], profile)
            samples.color, profile = grey_as_rgb(light.mean(axis=2)), None
        except ImageCms.PyCMSError:
            pass  # a damaged profile is ignored below, with a note
    if profile is not None and profiles.color_space(profile) != "RGB":
        samples.notes.append("has a damaged or unsuitable colour profile, which was ignored")
        profile = None
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


def _opened(path: Path) -> Image.Image:
    """Open a picture; a PNG file without its text if that is more than Pillow reads."""
    try:
        return open_image(path, path)
    except ValueError as error:
        if "text" not in str(error).lower() or path.suffix.lower() == ".psd":
            raise
        content = path.read_bytes()
        if not content.startswith(png_chunks.SIGNATURE):
            raise
        return open_image(io.BytesIO(png_chunks.without_text(content)), path)


def _decoded(path: Path, image: Image.Image) -> Samples:
    """Return the samples of the first frame of an opened picture."""
    notes = []
    # Counting the frames of a GIF or TIFF would read the whole file.
    if getattr(image, "is_animated", False):
        notes.append("holds more than one frame; only the first is restored")
    samples = _deep(path, image)
    if samples is None:
        samples = _shallow(path, _loaded(path, image, notes), notes)
    last = samples.color[-1]
    if image.format == "PNG" and bool((last == last[:1]).all()) and png_chunks.lacks_rows(path):
        raise ImageError(f"{path} is damaged or incomplete: a part of the picture is missing.")
    samples.notes = [*notes, *samples.notes]
    samples.orientation = _orientation(image)
    if samples.icc_profile is None:
        tags = color_tags(image, png_chunks.header_chunks(path))
        samples.icc_profile = tags.icc_profile
        if tags.to_srgb_curve is not None:
            samples.color = tags.to_srgb_curve(to_unit(samples.color))
        if tags.note is not None:
            samples.notes.append(tags.note)
    if samples.grey and profiles.color_space(samples.icc_profile) == "RGB":
        samples.icc_profile = None  # neutral in every RGB space; a grey file holds no such profile
    return samples


def _deep(path: Path, image: Image.Image) -> Samples | None:
    """Return the samples of a picture with 16 bits; None for one with fewer."""
    if png16.is_deep(image):
        with open_image(path, path) as low:
            values = png16.decode(image, low)
    elif image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{path} holds 32-bit integers. Save it with 8 or 16 bits per channel."
            )
        values = values.astype(np.uint16)[..., None]
    else:
        return None
    key, alpha = image.info.get("transparency"), None
    if values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    elif key is not None:  # one colour of the picture is transparent
        alpha = np.where((values == key).all(axis=2), 0, 65535).astype(np.uint16)
    grey = values.shape[2] == 1
    color = grey_as_rgb(values[..., 0]) if grey else values
    return Samples(color, alpha, grey, 16, image.info.get("icc_profile"))


def _loaded(path: Path, image: Image.Image, notes: list[str]) -> Image.Image:
    """Decode a picture; of a JPEG file that ends too early, as much as there is."""
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        cut = jpeg_tail.read_cut(path.read_bytes(), lambda content: open_image(content, path))
        if cut is None:
            raise
        notes.append(cut[1])
        return cut[0]
    return image


def _shallow(path: Path, image: Image.Image, notes: list[str]) -> Samples:
    """Return the samples of a picture with 8 bits or fewer."""
    if image.mode == "F":
        raise ImageError(
            f"{path} holds floating-point values. Save it with 8 or 16 bits per channel."
        )
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        return Samples(np.asarray(_cmyk_to_rgb(image, profile, notes)))
    if image.mode == "LAB":
        notes.append("is a Lab picture, converted to sRGB")
        return Samples(np.asarray(profiles.lab_to_srgb(image)))
    transparent = "transparency" in image.info or "A" in image.getbands()
    values = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    color, alpha = values[..., :3], values[..., 3] if transparent else None
    if alpha is not None and not alpha.any() and image.format in _OFTEN_EMPTY_ALPHA:
        notes.append("is wholly transparent, which is probably a mistake; read as opaque")
        alpha = None
    return Samples(color, alpha, image.mode in ("1", "L", "LA"), icc_profile=profile)


def _cmyk_to_rgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profiles.color_space(profile) == "CMYK":
        assert profile is not None
        try:
            converted = profiles.to_srgb(image, profile)
        except ImageCms.PyCMSError:
            pass  # a damaged profile: the plain formula below, with a note
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
    except Exception as error:  # damaged EXIF must not prevent reading the picture
        _ = error
        return 1


def without_metadata(picture: Picture) -> Picture:
    """Return a picture with its pixels and colour profile alone."""
    return replace(picture, metadata=Metadata())
