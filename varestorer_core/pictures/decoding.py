"""Decoding of picture files by Pillow, with the formats and depths that it misreads."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from . import jpeg_tail, png16, png_chunks, png_repair, tiff_colors
from .color_tags import color_tags
from .opening import open_image
from .samples import Samples, grey_as_rgb, to_unit

_ORIENTATION = 0x0112  # EXIF tag
_OFTEN_EMPTY_ALPHA = ("BMP", "DIB", "TGA")
"""Formats whose writers often leave the fourth channel at 0."""


class Source:
    """A picture file, or a repaired copy of it in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repair = png_repair.repaired(path)

    def open(self) -> Image.Image:
        """Open the picture; see `opening.open_image` for the errors."""
        content = self.repair.content
        return open_image(self.path if content is None else io.BytesIO(content), self.path)


def decoded(source: Source, image: Image.Image) -> Samples:
    """Return the samples of the first frame of an opened picture."""
    path, notes = source.path, list(source.repair.notes)
    # Counting the frames of a GIF or TIFF would read the whole file.
    if getattr(image, "is_animated", False):
        notes.append("holds more than one frame; only the first is restored")
    samples = _deep(source, image)
    if samples is None:
        samples = _shallow(path, _loaded(path, image, notes), notes)
    last = samples.color[-1]
    if image.format == "PNG" and bool((last == last[:1]).all()) and png_chunks.lacks_rows(path):
        raise ImageError(f"{path} is damaged or incomplete: a part of the picture is missing.")
    if samples.icc_profile is None and not samples.converted:
        samples.icc_profile = source.repair.icc_profile
    samples.notes = [*notes, *samples.notes]
    samples.orientation = orientation(image)
    apply_color_tags(samples, image, path)
    return samples


def apply_color_tags(samples: Samples, image: Image.Image, path: Path) -> None:
    """Interpret the samples of an opened picture by the colour tags of its file."""
    if samples.converted:
        return
    tags = color_tags(image, path, samples.icc_profile)
    if tags is None:
        return
    samples.icc_profile = tags.icc_profile
    if tags.to_srgb_curve is not None:
        samples.color = tags.to_srgb_curve(to_unit(samples.color))
    if tags.note is not None:
        samples.notes.append(tags.note)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened picture, 1 if its EXIF data are damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # damaged EXIF must not prevent reading the picture
        _ = error
        return 1


def _deep(source: Source, image: Image.Image) -> Samples | None:
    """Return the samples of a picture with 16 bits; None for one with fewer."""
    if png16.is_deep(image):
        with source.open() as low:
            values = png16.decode(image, low)
    elif image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(
                f"{source.path} holds 32-bit integers. Save it with 8 or 16 bits per channel."
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
        if image.format == "JPEG":
            notes += jpeg_tail.filled_in(path, image, lambda part: open_image(part, path))
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        content = path.read_bytes()
        image, note = jpeg_tail.read_cut(path, content, lambda part: open_image(part, path))
        notes.append(note)
    return image


def _shallow(path: Path, image: Image.Image, notes: list[str]) -> Samples:
    """Return the samples of a picture with 8 bits or fewer."""
    if image.mode == "F":
        raise ImageError(
            f"{path} holds floating-point values. Save it with 8 or 16 bits per channel."
        )
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK":
        rgb = tiff_colors.cmyk_to_rgb(image, profile, notes)
        return Samples(np.asarray(rgb), converted=True)
    if image.mode == "LAB":
        return Samples(np.asarray(tiff_colors.lab_to_rgb(image, notes)), converted=True)
    transparent = "transparency" in image.info or "A" in image.getbands()
    values = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    color, alpha = values[..., :3], values[..., 3] if transparent else None
    if alpha is not None and not alpha.any() and image.format in _OFTEN_EMPTY_ALPHA:
        notes.append("is wholly transparent, which is probably a mistake; read as opaque")
        alpha = None
    return Samples(color, alpha, image.mode in ("1", "L", "LA"), icc_profile=profile)
