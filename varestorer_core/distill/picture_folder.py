"""Training pictures from folders of any size, which are read when they are drawn.

A draw takes a file, a position and a scale from the caller's generator, so a resumed run draws the same pictures as an
uninterrupted one, as long as the folder does not change.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Container
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from ..wording import shown
from .data import describe_skipped
from .decode import open_picture, picture_files, picture_size

_TRIES = 20
_log = logging.getLogger(__name__)


class PictureFolder:
    """The pictures of a folder and its subfolders with at least `smallest` pixels a side.

    Others are skipped; their number and names are logged.

    Args:
        without: files to exclude silently, such as those held out for validation.

    Raises:
        ImageError: if the folder does not exist or has no such picture.
    """

    def __init__(self, folder: Path, smallest: int, without: Container[Path] = ()):
        self.files: list[Path] = []
        self.sides: list[int] = []
        self.skipped: list[str] = []
        unreadable, small = [], []
        files = [file for file in picture_files(folder) if file not in without]
        for file in files:
            name = str(file.relative_to(folder))
            try:
                side = min(picture_size(file))  # reads the header only
            except ImageError:
                unreadable.append(name)
                continue
            if side >= smallest:
                self.files.append(file)
                self.sides.append(side)
            else:
                small.append(name)
        self.skipped = unreadable + small
        if self.skipped:
            reasons = {"unreadable": unreadable, f"smaller than {smallest} pixels": small}
            _log.warning("%s", describe_skipped(len(files), reasons))
        if not self.files:
            raise ImageError(
                f"The data folder must hold readable pictures of at least {smallest} x {smallest} pixels, got "
                f"none among {len(files)} picture files in {folder}. Add pictures, or leave --data out for "
                "procedural ones."
            )

    def draw(self, batch: int, crop: int, generator: torch.Generator) -> NDArray[np.uint8]:
        """Return (batch, crop, crop, 3) uint8 squares, flipped left-right half the time.

        Each is cropped from its picture at a random scale between its own size and the smallest possible one.

        Raises:
            ImageError: if too many files in a row cannot be read.
        """
        return np.stack([self._draw(crop, generator) for _ in range(batch)])

    def _draw(self, crop: int, generator: torch.Generator) -> NDArray[np.uint8]:
        index = 0
        for _ in range(_TRIES):
            index = int(torch.randint(len(self.files), (1,), generator=generator))
            size, x, y, flip = torch.rand(4, generator=generator).tolist()
            # The side of the square is log-uniform between the tile and the whole picture.
            whole = self.sides[index]
            side = max(crop, round(crop * math.exp(size * math.log(max(1.0, whole / crop)))))
            try:
                image, shrunk = open_picture(self.files[index], side / crop)
            except ImageError as error:
                self._skip(index, error)
                continue
            side = min(side / shrunk, *image.size)
            if side < crop:
                self._skip(index, f"smaller than {crop} pixels")
                continue
            left = x * (image.width - side)
            top = y * (image.height - side)
            box = (left, top, left + side, top + side)
            square = np.asarray(image.resize((crop, crop), Image.Resampling.LANCZOS, box=box))
            return np.ascontiguousarray(square[:, ::-1]) if flip < 0.5 else square
        raise ImageError(
            f"{_TRIES} pictures in a row could not be used, the last {self.files[index].name}. "
            "Check the data folder."
        )

    def _skip(self, index: int, reason: object) -> None:
        # The file stays in the list, so that a resumed run numbers the others in the same way.
        name = self.files[index].name
        if name not in self.skipped:
            self.skipped.append(name)
            _log.warning(
                "picture %s skipped (%s); %d so far", shown(name), shown(reason), len(self.skipped)
            )
