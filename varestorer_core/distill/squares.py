"""Squares cropped from photographs once, with procedural ones, in one memory-mapped file.

This is fast for a few hundred photographs, because a crop needs no decoding. The file is valid for its photographs, by
names and sizes, and its settings; otherwise it is created again. Until it is complete it has another name, and an
interrupted creation is continued.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import json_text
from ..atomic import reserve, write_atomically
from ..regular import check_regular
from .data import Progress, folder_pictures
from .decode import folder_identity, picture_files
from .interruption import check_time, has_passed
from .procedural import generate_picture

_RECORD_EVERY = 64
"""Procedural squares between two records of the progress."""


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
    deadline: float | None = None,
) -> NDArray[np.uint8]:
    """Return (n, size, size, 3) uint8 squares: up to `each` of every photograph, then the procedural ones.

    Args:
        path: path of the .npy file; a .json file of that name describes its content.
        folder: folder of photographs, including subfolders. Those smaller than a square are skipped.
        files: files of the folder to use; None means all of them.
        procedural: number of squares of `generate_picture` after the photographs'.
        on_progress: called with (procedural squares done, in total).
        deadline: value of `time.monotonic()` at which to stop; the photographs are always cropped first.

    Raises:
        ImageError: if the folder has no usable picture.
        DeadlineError: at the deadline, after the squares so far have been recorded.
    """
    files = picture_files(folder) if files is None else files
    check_regular(path)
    note = path.with_suffix(".json")
    wanted = {
        "photographs": folder_identity(folder, files),
        "each": each,
        "procedural": procedural,
        "size": size,
        "seed": seed,
    }
    if path.exists() and _read(note) == wanted:
        return np.load(path, mmap_mode="r")
    # Pictures of other settings must not survive beside the new ones.
    note.unlink(missing_ok=True)
    partial = path.with_name(path.name + ".partial")
    progress = partial.with_suffix(".partial.json")
    squares, cropped, done = _started(partial, progress, wanted)
    if squares is None:
        photographs = folder_pictures(folder, size=size, per_picture=each, seed=seed, files=files)
        path.parent.mkdir(parents=True, exist_ok=True)
        progress.unlink(missing_ok=True)
        cropped = len(photographs)
        shape = (cropped + procedural, size, size, 3)
        squares = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        reserve(partial)
        squares[:cropped] = photographs

    def record() -> None:
        squares.flush()
        content = {"wanted": wanted, "cropped": cropped, "done": done}
        write_atomically(progress, json.dumps(content).encode())

    record()
    for index in range(done, procedural):
        if has_passed(deadline):
            record()
        check_time(deadline, index, procedural)
        squares[cropped + index] = generate_picture(seed, index, size=size)
        done = index + 1
        if done % _RECORD_EVERY == 0:
            record()
        if on_progress is not None:
            on_progress(done, procedural)
    squares.flush()
    partial.replace(path)
    # Last: an interrupted run leaves squares without a description, which are created again.
    write_atomically(note, json.dumps(wanted).encode())
    progress.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r")


def _started(
    partial: Path, progress: Path, wanted: dict[str, Any]
) -> tuple[np.memmap | None, int, int]:
    """Return an interrupted creation with these settings, and its numbers of photographs' and procedural squares."""
    check_regular(partial)
    found = _read(progress)
    if not isinstance(found, dict) or found.get("wanted") != wanted or not partial.exists():
        return None, 0, 0
    try:
        np.lib.format.open_memmap(partial, mode="r")  # "r+" would extend a truncated file
        squares = np.lib.format.open_memmap(partial, mode="r+")
        return squares, int(found["cropped"]), int(found["done"])
    except (EOFError, LookupError, OSError, TypeError, ValueError):
        return None, 0, 0


def _read(path: Path) -> object:
    """Return the content of a JSON file, or None if it is missing or damaged."""
    try:
        return json_text.read(path)
    except (OSError, ValueError):
        return None
