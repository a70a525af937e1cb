"""Which files are opened as pictures, and by which library. Nothing is decoded here.

Pillow opens only the formats listed here: some of its other ones start external programs (PostScript) or are not
pictures.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import IO

from PIL import Image

from ..errors import ImageError
from ..host_memory import MAX_OUTPUT_PIXELS
from ..wording import system_reason
from .signatures import COUNT, format_of

_ENDINGS = """
    .apng .avif .bmp .dib .gif .heic .heics .heif .hif .ico .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .jxl
    .mpo .pbm .pcx .pgm .png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp
"""
_RAW_ENDINGS = """
    .3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2 .srf
    .srw .x3f
"""
HEIC = frozenset({".heic", ".heics", ".heif", ".hif"})
"""Extensions of HEIC files."""
RAW = frozenset(_RAW_ENDINGS.split())
"""Extensions of camera raw files."""
READABLE = frozenset(_ENDINGS.split()) | RAW
"""Extensions of the files in a folder that are pictures; a file given by name is always tried."""
_FORMATS = """
    AVIF BMP DIB GIF ICO JPEG JPEG2000 PCX PNG PPM PSD QOI SGI TGA TIFF WEBP
"""
PILLOW_FORMATS = tuple(_FORMATS.split())
"""The formats that Pillow may open, by its own names."""
_PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}

MAX_PIXELS = MAX_OUTPUT_PIXELS
"""Pictures with more pixels (537 megapixels) are rejected before they are decoded. Results have the same limit, so
every result can be read back."""

_LARGE = 2**26
_MOST_PIXELS_A_BYTE = 20_000
"""More than any format reaches for a picture with content: such a file only consumes memory."""

_pillow_limit = threading.Lock()


class DecoderPanicError(Exception):
    """A panic of a decoder written in Rust."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Convert panics of decoders in Rust, which do not derive from Exception, to one that does."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # PyO3 has no name to import
            raise
        raise DecoderPanicError(str(error)) from error


def check_file(path: Path) -> None:
    """Reject anything but a regular, non-empty, readable file.

    Raises:
        ImageError: in one sentence that names the file.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path} is a folder; expected a picture file.")
        if not stat.S_ISREG(found.st_mode):
            # Reading from a pipe or a device could wait or go on forever.
            raise ImageError(f"{path} is a pipe, a socket or a device; expected a picture file.")
        if found.st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes); expected a picture.")
        with path.open("rb"):
            pass
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.") from error
    except (OSError, ValueError) as error:
        reason = system_reason(error) if isinstance(error, OSError) else error
        raise ImageError(f"{path} cannot be opened: {reason}.") from error


@contextmanager
def without_pillow_limit() -> Iterator[None]:
    """Let `Image.open` accept any number of pixels: Pillow's limit is a global variable, lower than `MAX_PIXELS`."""
    with _pillow_limit, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = kept


def open_image(source: Path | IO[bytes], name: Path) -> Image.Image:
    """Open a picture with Pillow: header only, of a known format, within `MAX_PIXELS`.

    Args:
        source: the file, or its content.
        name: the file's name in messages.

    Raises:
        ImageError: for too many pixels, or none.
        Exception: whatever Pillow raises for a file that it cannot open.
    """
    _register_plugins()
    with without_pillow_limit():
        image = Image.open(source, formats=[*PILLOW_FORMATS, *_registered()])
    try:
        check_size(name, image.width, image.height)
    except ImageError:
        image.close()
        raise
    return image


def check_size(path: Path, width: int, height: int) -> None:
    """Reject a picture without pixels, with more than `MAX_PIXELS`, or with far more than its file can hold."""
    if width < 1 or height < 1:
        raise ImageError(f"{path} is {width} x {height}, so it holds no pixels.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{path} has too many pixels ({width} x {height}): the limit is "
            f"{MAX_PIXELS / 1e6:.0f} megapixels. Cut or reduce the picture first."
        )
    num_bytes = path.stat().st_size
    if width * height > max(_LARGE, num_bytes * _MOST_PIXELS_A_BYTE):
        raise ImageError(
            f"{path} is damaged: {num_bytes} bytes cannot hold {width} x {height} pixels."
        )


def unreadable(path: Path) -> ImageError:
    """Return the error for a file that cannot be opened."""
    ending, found = path.suffix.lower(), format_of(starts_with(path, COUNT))
    if (ending in HEIC or found == "HEIC") and "HEIF" not in _registered():
        return ImageError(f"{path} is a HEIC file. To read it, pip install pillow-heif.")
    if (ending == ".jxl" or found == "JPEG XL") and "JXL" not in _registered():
        return ImageError(f"{path} is a JPEG XL file. To read it, pip install pillow-jxl-plugin.")
    if found is not None:
        return ImageError(
            f"{path} is a {found} file that is damaged, or of a kind that is not supported."
        )
    return ImageError(
        f"{path} is not a picture in a supported format. Use PNG, JPEG, WebP, TIFF or BMP."
    )


def starts_with(path: Path, count: int) -> bytes:
    """Return the first `count` bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)


def is_tiff(start: bytes) -> bool:
    """Tell whether a file that starts like this is TIFF or BigTIFF."""
    return start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@lru_cache(maxsize=None)
def _register_plugins() -> None:
    """Register the Pillow plugins that are installed."""
    Image.init()
    try:
        import_module("pillow_heif").register_heif_opener()
    except Exception as error:  # a plugin that fails to load must not disable the other formats
        _ = error
    try:
        import_module("pillow_jxl")
    except Exception as error:
        _ = error


def _registered() -> list[str]:
    _register_plugins()
    return [name for name in _PLUGINS if name in Image.OPEN]


def is_hidden(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is hidden, and so never a picture (macOS leaves "._name.png" beside each picture)."""
    return Path(path).name.startswith(".")
