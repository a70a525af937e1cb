"""Camera raw files by rawpy, where it is installed; their embedded previews are never taken for the picture."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ..errors import ImageError
from .opening import check_size
from .samples import Samples


def read(path: Path) -> Samples:
    """Develop a camera raw file: white balance of the camera, sRGB, 16 bits, upright.

    Raises:
        ImageError: without rawpy, or for a file that it cannot develop.
    """
    try:
        rawpy = import_module("rawpy")
    except ImportError as error:
        raise ImageError(
            f"{path} is a camera raw file. pip install rawpy to read it, or export a TIFF or PNG from your raw program."
        ) from error
    try:
        with rawpy.imread(str(path)) as file:
            check_size(path, file.sizes.width, file.sizes.height)
            color = file.postprocess(use_camera_wb=True, output_bps=16, gamma=(2.4, 12.92))
    except rawpy.LibRawError as error:
        reason = error.args[0] if error.args else error
        reason = reason.decode("ascii", "replace") if isinstance(reason, bytes) else reason
        raise ImageError(
            f"{path} is a camera raw file that rawpy cannot develop ({reason}). "
            "Export a TIFF or PNG from your raw program."
        ) from error
    return Samples(color, bit_depth=16, notes=["is a camera raw file, developed by rawpy"])
