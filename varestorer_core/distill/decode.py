"""Picture files to 8-bit RGB as fast as training needs them: JPEG files are decoded at a reduced scale."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from ..errors import ImageError
from ..pictures import READABLE, open_image, panics_as_errors, png16, read_picture, to_uint8

_REDUCTIONS = (8, 4, 2)
"""By which libjpeg can shrink while it decodes."""


def picture_files(folder: Path) -> list[Path]:
    """Return the picture files of a folder and its subfolders in a fixed order.

    Raises:
        ImageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise ImageError(
            f"A folder of pictures must be an existing folder, got {folder}. Check --data and --validation."
        )
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE and p.is_file())


def folder_identity(folder: Path, files: Sequence[Path]) -> str:
    """Return a hash of the names and sizes of a folder's pictures."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def open_picture(path: Path, reduction: float = 1.0) -> tuple[Image.Image, int]:
    """Return a picture upright, with 8 bits a channel and no alpha channel, and by how much it was shrunk.

    Args:
        reduction: by how much the caller will shrink the picture, 1 or more. A JPEG file is decoded at the
            largest of the scales 1/2, 1/4 and 1/8 that leaves it no smaller than that.

    Raises:
        ImageError: if it cannot be read.
    """
    try:
        with panics_as_errors(), open_image(path, path) as image:
            plain = image.mode == "RGB" or (image.mode == "L" and "icc_profile" not in image.info)
            plain = plain and image.format != "TIFF"  # of which Pillow misreads some layouts
            if plain and not png16.is_deep(image) and "transparency" not in image.info:
                shrunk = _shrink(image, reduction)
                return ImageOps.exif_transpose(image).convert("RGB"), shrunk
    except Exception:
        # Whatever a decoder raises on a damaged file: the reader below finds out, and says it in one sentence.
        pass
    return Image.fromarray(to_uint8(read_picture(path).rgb)), 1


def _shrink(image: Image.Image, reduction: float) -> int:
    """Ask the decoder for a smaller picture; return by how much it will be smaller."""
    width, height = image.size
    for factor in _REDUCTIONS:
        if reduction >= factor:
            # Only JPEG files do it; others return None and stay as they are.
            drafted = image.draft("RGB", (max(1, width // factor), max(1, height // factor)))
            return factor if drafted is not None else 1
    return 1


def picture_size(path: Path) -> tuple[int, int]:
    """Return (width, height) as the file's header has them.

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
