"""The pictures that a run trains on and measures itself on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..data import folder_pictures, procedural_pictures
from ..picture_folder import PictureFolder, PictureSource
from ..squares import mixed_squares
from .settings import Report, RunSettings, Stage, reporter


def training_pictures(
    settings: RunSettings, stage: Stage, report: Report | None = None
) -> tuple[PictureSource, NDArray[np.uint8]]:
    """Return what a stage trains on, and the squares of tile size that it measures on."""
    return _training(settings, stage, report), _validation(settings)


def _training(settings: RunSettings, stage: Stage, report: Report | None) -> PictureSource:
    """Return the training squares, or for a student of full size the folder that they are cut from."""
    if settings.base is not None and settings.data is not None and stage == "student":
        return PictureFolder(settings.data, settings.tile)
    size = settings.picture_size
    if settings.tile > size:
        size = settings.tile * 9 // 8
    if settings.data is not None and settings.squares is not None:
        return mixed_squares(
            settings.out / "squares.npy",
            settings.data,
            each=settings.squares,
            procedural=settings.pictures,
            size=size,
            seed=settings.seed,
            on_progress=reporter(report, "pictures"),
        )
    if settings.data is not None:
        return folder_pictures(settings.data, size=size, seed=settings.seed)
    return procedural_pictures(
        settings.out / "pictures.npy",
        settings.pictures,
        size=size,
        seed=settings.seed,
        workers=settings.workers,
        on_progress=reporter(report, "pictures"),
    )


def _validation(settings: RunSettings) -> NDArray[np.uint8]:
    """Return the squares of tile size that the stages measure on."""
    count = settings.validation_pictures
    if settings.validation is not None:
        held_out = folder_pictures(settings.validation, size=settings.tile, per_picture=2)
    else:
        held_out = procedural_pictures(
            settings.out / "validation.npy", count, size=settings.tile, seed=settings.seed + 1
        )
    return np.ascontiguousarray(held_out[:count])
