"""Fast decoding of picture files to 8-bit RGB for training: JPEG files are decoded at a reduced scale."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import ImageError
from ..pictures import (
    READABLE,
    is_hidden,
    open_image,
    panics_as_errors,
    png16,
    read_picture,
    to_uint8,
)

_REDUCTIONS = (8, 4, 2)
"""Factors by which libjpeg can reduce a picture while decoding."""


def picture_files(folder: Path) -> list[Path]:
    """Return the picture files of a folder and its subfolders in a fixed order, without hidden files.

    Raises:
        ImageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise ImageError(
            f"A folder of pictures must be an existing folder, got {folder}. Check --data and --validation."
        )
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in READABLE and not is_hidden(path) and path.is_file()
    )


def folder_identity(folder: Path, files: Sequence[Path]) -> str:
    """Return a hash of the names and sizes of a folder's pictures."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n"))
    return digest.hexdigest()


def open_picture(path: Path, reduction: float = 1.0) -> tuple[Image.Image, int]:
    """Return an upright picture with 8 bits per channel and no alpha channel, and the factor by which it was reduced.

    Args:
        reduction: factor by which the caller will reduce the picture, at least 1. A JPEG file is decoded at the
            smallest of the scales 1, 1/2, 1/4 and 1/8 that is not smaller than that.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        with panics_as_errors(), open_image(path, path) as image:
            plain = image.mode == "RGB" or (image.mode == "L" and "icc_profile" not in image.info)
            plain = plain and image.format != "TIFF"  # Pillow misreads some TIFF layouts
            if plain and not png16.is_deep(image) and "transparency" not in image.info:
                shrunk = _shrink(image, reduction)
                return ImageOps.exif_transpose(image).convert("RGB"), shrunk
    except Exception:
        # Decoders may raise anything on a damaged file; the reader below reports the damage in one sentence.
        pass
    return Image.fromarray(to_uint8(read_picture(path).rgb)), 1


def _shrink(image: Image.Image, reduction: float) -> int:
    """Request a smaller picture from the decoder and return the factor."""
    width, height = image.size
    for factor in _REDUCTIONS:
        if reduction >= factor:
            # Only JPEG files support it; others return None and are unchanged.
            drafted = image.draft("RGB", (max(1, width // factor), max(1, height // factor)))
            return factor if drafted is not None else 1
    return 1


def picture_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from the file's header.

    Raises:
        ImageError: if the header cannot be read.
    """
    try:
        with panics_as_errors(), open_image(path, path) as image:
            return image.size
    except ImageError:
        raise
    except Exception as error:  # decoders raise errors of every class on damaged files
        raise ImageError(f"{path} cannot be read ({error}).") from error
