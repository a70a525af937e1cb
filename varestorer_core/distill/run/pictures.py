"""The training and validation pictures of a run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ..data import folder_pictures, procedural_pictures
from ..decode import picture_files, picture_size
from ..picture_folder import PictureFolder
from ..sources import PictureSource, Squares
from ..squares import mixed_squares
from .settings import OnProgress, RunSettings, reporter

_MOST_HELD_OUT = 0.1
"""Largest fraction of a folder's pictures that is held out."""


def training_source(settings: RunSettings, report: OnProgress | None = None) -> PictureSource:
    """Return the training pictures of a stage; missing procedural pictures are generated.

    Raises:
        DeadlineError: if the run's deadline passes meanwhile.
    """
    if settings.data is not None and settings.squares is None:
        return PictureFolder(settings.data, settings.tile, without=set(held_out_files(settings)))
    size = settings.picture_size
    if settings.tile > size:
        size = settings.tile * 9 // 8
    if settings.data is not None and settings.squares is not None:
        held_out = set(held_out_files(settings))
        squares = mixed_squares(
            settings.out / "squares.npy",
            settings.data,
            files=[file for file in picture_files(settings.data) if file not in held_out],
            each=settings.squares,
            procedural=settings.pictures,
            size=size,
            seed=settings.seed,
            on_progress=reporter(report, "pictures"),
            deadline=settings.deadline,
        )
        return Squares(squares)
    pictures = procedural_pictures(
        settings.out / "pictures.npy",
        settings.pictures,
        size=size,
        seed=settings.seed,
        workers=settings.workers,
        on_progress=reporter(report, "pictures"),
        deadline=settings.deadline,
    )
    return Squares(pictures)


def validation_pictures(
    settings: RunSettings, report: OnProgress | None = None
) -> NDArray[np.uint8]:
    """Return the validation squares (n, T, T, 3) of tile size.

    They are cropped from the validation folder; without one, from pictures of the data folder that are held out of
    training; without either, they are procedural ones of another seed.

    Raises:
        DeadlineError: if the run's deadline passes while they are generated.
    """
    count = settings.validation_pictures
    folder, files = settings.validation, None
    if folder is None and settings.data is not None:
        folder, files = settings.data, held_out_files(settings)
    if folder is None:
        path = settings.out / "validation.npy"
        squares = procedural_pictures(
            path,
            count,
            size=settings.tile,
            seed=settings.seed + 1,
            workers=settings.workers,
            on_progress=reporter(report, "validation pictures"),
            deadline=settings.deadline,
        )
        return np.ascontiguousarray(squares[:count])
    files = picture_files(folder) if files is None else files
    # One square per picture if there are enough pictures.
    each = -(-count // max(1, len(files)))
    squares = folder_pictures(folder, size=settings.tile, per_picture=each, files=files)
    return np.ascontiguousarray(squares[:count])


def held_out_files(settings: RunSettings) -> list[Path]:
    """Return the pictures of the data folder for validation: none if there is a validation folder.

    They are selected by hashes of their names, so adding pictures moves few others between training and validation.

    Raises:
        ImageError: if the folder does not exist, or has only one picture.
    """
    if settings.data is None or settings.validation is not None:
        return []
    files = [file for file in picture_files(settings.data) if _fits(file, settings.tile)]
    if len(files) == 1:
        raise ImageError(
            f"{settings.data} has one picture of at least {settings.tile} x {settings.tile} pixels. Training needs "
            "another one for validation: add pictures, or specify a folder with --validation."
        )
    count = min(settings.validation_pictures, max(1, int(len(files) * _MOST_HELD_OUT)))

    def order(file: Path) -> str:
        assert settings.data is not None
        return hashlib.sha256(os.fsencode(file.relative_to(settings.data).as_posix())).hexdigest()

    return sorted(sorted(files, key=order)[:count])


def _fits(file: Path, tile: int) -> bool:
    try:
        return min(picture_size(file)) >= tile
    except ImageError:
        return False
