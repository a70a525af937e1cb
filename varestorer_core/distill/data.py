"""Squares in memory: a cached array of procedural pictures, or crops of photographs.

Both are arrays of equal uint8 squares: procedural ones for training, those of a folder for validation. The cache is
a memory-mapped .npy file that is filled in order and records its progress, so an interrupted generation can be
continued.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .. import json_text
from ..atomic import reserve, write_atomically
from ..errors import ImageError, SettingError
from ..regular import check_regular
from ..wording import shown
from .decode import open_picture, picture_files
from .interruption import check_time, has_passed
from .procedural import generate_picture
from .workers import start_worker

Progress = Callable[[int, int], None]

_CHUNK = 64
_NAMED = 20
"""Number of skipped pictures of each kind that a message names."""
_log = logging.getLogger(__name__)


def procedural_pictures(
    path: Path,
    count: int,
    *,
    size: int = 192,
    seed: int = 0,
    workers: int = 1,
    on_progress: Progress | None = None,
    deadline: float | None = None,
) -> NDArray[np.uint8]:
    """Return (count, size, size, 3) uint8 pictures; those not in the cache `path` (.npy) yet are generated.

    A cache of the same size and seed is continued; one with other settings, or a damaged one, is replaced.

    Args:
        deadline: value of `time.monotonic()` at which to stop.

    Raises:
        SettingError: if `count` is not positive.
        DeadlineError: at the deadline, after the pictures so far have been recorded in the cache.
    """
    if count < 1:
        raise SettingError(f"The number of training pictures must be at least 1, got {count}.")
    note = path.with_suffix(".json")
    wanted = {"count": count, "size": size, "seed": seed}
    shape = (count, size, size, 3)
    check_regular(path)
    array, done = _cached(path, note, wanted, shape)
    if array is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # First, so that an old record never applies to the new, still empty pictures.
        note.unlink(missing_ok=True)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        reserve(path)
    draw = partial(generate_picture, seed, size=size)
    pool = (
        ProcessPoolExecutor(workers, initializer=start_worker, initargs=(os.getpid(),))
        if workers > 1
        else None
    )

    def record() -> None:
        array.flush()
        write_atomically(note, json.dumps({**wanted, "done": done}).encode())

    try:
        for start in range(done, count, _CHUNK):
            indices = range(start, min(start + _CHUNK, count))
            drawn = map(draw, indices) if pool is None else pool.map(draw, indices, chunksize=4)
            for index in indices:
                if has_passed(deadline):
                    record()
                check_time(deadline, done, count)
                array[index] = next(drawn)
                done = index + 1
            record()
            if on_progress is not None:
                on_progress(done, count)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return array


def _cached(
    path: Path, note: Path, wanted: dict[str, int], shape: tuple[int, ...]
) -> tuple[np.memmap | None, int]:
    """Return a cache with these settings and the number of its finished pictures, or None and 0."""
    try:
        found = json_text.read(note)
        if {key: found[key] for key in wanted} != wanted:
            return None, 0
        np.lib.format.open_memmap(path, mode="r")  # "r+" would extend a truncated file
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"an array {array.shape} of {array.dtype}")
        return array, min(int(found["done"]), shape[0])
    except FileNotFoundError:
        return None, 0
    except (EOFError, LookupError, OSError, TypeError, ValueError) as error:
        _log.warning("the picture cache %s is damaged (%s) and is generated again", path, error)
        return None, 0


def describe_skipped(files: int, kinds: Mapping[str, Sequence[str]]) -> str:
    """Return a line with the number and names of skipped pictures.

    Args:
        files: total number of picture files.
        kinds: names by reason; reasons without names are omitted.
    """
    parts = []
    for reason, names in kinds.items():
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            parts.append(f"{len(names)} {reason}: {', '.join(map(shown, names[:_NAMED]))}{more}")
    count = sum(len(names) for names in kinds.values())
    return f"{count} of {files} pictures skipped; " + "; ".join(parts)


def folder_pictures(
    folder: Path,
    *,
    size: int = 192,
    per_picture: int = 8,
    seed: int = 0,
    files: Sequence[Path] | None = None,
) -> NDArray[np.uint8]:
    """Return (n, size, size, 3) uint8 squares cropped from the pictures of a folder and its subfolders.

    Each picture yields up to `per_picture` squares at random positions and scales. Unreadable files and pictures
    smaller than a square are skipped; their number and names are logged.

    Args:
        files: files of the folder to use; None means all of them.

    Raises:
        ImageError: if nothing is left.
    """
    files = picture_files(folder) if files is None else files
    rng = np.random.default_rng(seed)
    squares: list[NDArray[np.uint8]] = []
    unreadable: list[str] = []
    small: list[str] = []
    for file in files:
        name = str(file.relative_to(folder))
        try:
            image, _ = open_picture(file)
        except ImageError:
            unreadable.append(name)
            continue
        if min(image.size) < size:
            small.append(name)
            continue
        squares += _cut(rng, image, size, per_picture)
    if unreadable or small:
        kinds = {"unreadable": unreadable, f"smaller than {size} pixels": small}
        _log.warning("%s", describe_skipped(len(files), kinds))
    if not squares:
        raise ImageError(
            f"{folder} must hold readable pictures of at least {size} x {size} pixels, got none among "
            f"{len(picture_files(folder))} picture files. Add pictures, or leave --data or --validation out for "
            "procedural ones."
        )
    return np.stack(squares)


def _cut(
    rng: np.random.Generator, image: Image.Image, size: int, count: int
) -> list[NDArray[np.uint8]]:
    """Crop up to `count` squares, fewer from a picture whose area is too small."""
    width, height = image.size
    count = min(count, max(1, width * height // (size * size)))
    squares = []
    for _ in range(count):
        side = int(np.exp(rng.uniform(np.log(size), np.log(min(width, height) + 1))))
        side = min(max(side, size), width, height)
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        square = image.resize(
            (size, size), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side)
        )
        squares.append(np.asarray(square))
    return squares


def random_crops(
    pictures: NDArray[np.uint8], batch: int, crop: int, generator: torch.Generator
) -> NDArray[np.uint8]:
    """Draw (batch, crop, crop, 3) uint8 crops, each flipped left-right and transposed half the time.

    Raises:
        ImageError: if the pictures are smaller than a crop.
    """
    count, height, width = pictures.shape[:3]
    if min(height, width) < crop:
        raise ImageError(
            f"Training pictures must be at least {crop} x {crop} pixels, the size of a tile, got {width} x {height}."
        )

    def draw(high: int) -> list[int]:
        return torch.randint(high, (batch,), generator=generator).tolist()

    chosen, tops, lefts = draw(count), draw(height - crop + 1), draw(width - crop + 1)
    flips, turns = draw(2), draw(2)
    crops = []
    for n, y, x, flip, turn in zip(chosen, tops, lefts, flips, turns, strict=True):
        piece = pictures[n, y : y + crop, x : x + crop]
        piece = piece[:, ::-1] if flip else piece
        crops.append(piece.transpose(1, 0, 2) if turn else piece)
    return np.ascontiguousarray(np.stack(crops))
