"""Photographs for evaluation: those of scikit-image, and cropping of any picture to one size."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError, VARestorerError

SCIKIT_IMAGE = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Free photographs inside the wheel of scikit-image, so that nothing is downloaded."""


def scikit_image_photographs() -> tuple[list[Path], list[str]]:
    """Return the files of `SCIKIT_IMAGE` that the installed version contains, and the names of the others.

    Raises:
        VARestorerError: if scikit-image is not installed, or contains none of them.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise VARestorerError(
            "scikit-image is not installed. Install it (pip install scikit-image), or specify a "
            "folder of photographs."
        )
    folder = Path(found.submodule_search_locations[0]) / "data"
    paths = [folder / name for name in SCIKIT_IMAGE if (folder / name).is_file()]
    if not paths:
        raise VARestorerError(
            f"scikit-image in {folder.parent} comes without its photographs. Install it from PyPI "
            "(version 0.26 has them), or specify a folder of photographs."
        )
    missing = [name for name in SCIKIT_IMAGE if not (folder / name).is_file()]
    return paths, missing


def cut_square(rgb: Tensor, size: int, *, whole: bool = False) -> Tensor:
    """Return the centre square of a picture (3, H, W) as (3, size, size), or with `whole` all of it.

    The picture is first reduced by area averaging until its shorter side is `size`, which removes
    the camera's own blur, noise and compression artefacts.

    Args:
        whole: leave a picture unscaled if its shorter side is `size` already.

    Raises:
        ImageError: if a side is shorter than `size`.
    """
    height, width = rgb.shape[-2:]
    shorter = min(height, width)
    if shorter < size:
        raise ImageError(f"Expected at least {size} x {size} pixels, got {width} x {height}.")
    if whole and shorter == size:
        return rgb
    reduced = (round(height * size / shorter), round(width * size / shorter))
    if reduced != (height, width):
        rgb = F.interpolate(rgb[None], reduced, mode="area")[0]
    top, left = (reduced[0] - size) // 2, (reduced[1] - size) // 2
    return rgb[:, top : top + size, left : left + size].contiguous()
