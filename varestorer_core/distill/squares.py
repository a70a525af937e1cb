"""Squares cropped from photographs once, with procedural ones, in one memory-mapped file.

This is fast for a few hundred photographs, because a crop needs no decoding. The file is valid for its photographs, by
names and sizes, and its settings; otherwise it is created again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..atomic import reserve
from .data import Progress, folder_pictures
from .decode import folder_identity, picture_files
from .procedural import generate_picture


def mixed_squares(
    path: Path,
    folder: Path,
    *,
    files: Sequence[Path] | None = None,
    each: int,
    procedural: int,
    size: int = 192,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Return (n, size, size, 3) uint8 squares: up to `each` of every photograph, then the procedural ones.

    Args:
        path: path of the .npy file; a .json file of that name describes its content.
        folder: folder of photographs, including subfolders. Those smaller than a square are skipped.
        files: files of the folder to use; None means all of them.
        procedural: number of squares of `generate_picture` after the photographs'.
        on_progress: called with (procedural squares done, in total).

    Raises:
        ImageError: if the folder has no usable picture.
    """
    files = picture_files(folder) if files is None else files
    note = path.with_suffix(".json")
    wanted = {
        "photographs": folder_identity(folder, files),
        "each": each,
        "procedural": procedural,
        "size": size,
        "seed": seed,
    }
    if path.exists() and note.exists() and note.read_text() == json.dumps(wanted):
        return np.load(path, mmap_mode="r")
    photographs = folder_pictures(folder, size=size, per_picture=each, seed=seed, files=files)
    path.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    shape = (len(photographs) + procedural, size, size, 3)
    partial = path.with_name(path.name + ".partial")
    squares = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    reserve(partial)
    squares[: len(photographs)] = photographs
    for index in range(procedural):
        squares[len(photographs) + index] = generate_picture(seed, index, size=size)
        if on_progress is not None:
            on_progress(index + 1, procedural)
    squares.flush()
    partial.replace(path)
    # Last: an interrupted run leaves squares without a description, which are created again.
    note.write_text(json.dumps(wanted))
    return np.load(path, mmap_mode="r")
