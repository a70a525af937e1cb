"""Reading of PyTorch pickles without running code in them.

They are opened only by `torch.load(weights_only=True)`, after a check that this takes neither too long nor too much
memory. TorchScript archives are rejected before that, since old versions of PyTorch would pass them to another loader
that ignores the restriction.
"""

from __future__ import annotations

import pickle
import re
import struct
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ...errors import CheckpointError
from ...tiles.batching import is_out_of_memory
from ...wording import shown
from .archive import LARGEST_PICKLE, check_archive, too_long
from .bounds import Bounds
from .stand_ins import OutOfBoundsError, Storage

_OTHER_LOADERS = {".safetensors"}
"""Extensions for which newer versions of PyTorch choose another format."""

_MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of files that are not zip archives."""


def read_pickle(path: Path, *, zipped: bool, mapped: bool = True) -> Any:
    """Return what the file holds: containers of tensors on the CPU.

    Args:
        zipped: whether it is a zip archive, like all but old files.
        mapped: whether to map the tensors of an archive into memory, where they change with the file.

    Raises:
        CheckpointError: for a file that is truncated, contains objects other than tensors, would take too long or too
            much memory to load, or is not a checkpoint.
    """
    check_pickle(path, zipped=zipped)
    try:
        if path.suffix in _OTHER_LOADERS:
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped and mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except (RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError) as error:
        if is_out_of_memory(error):
            raise
        raise _damage(path) from error


def check_pickle(path: Path, *, zipped: bool) -> None:
    """Check that loading a file takes neither too long nor too much memory.

    Raises:
        CheckpointError: if it does, or if the file is damaged or not a checkpoint.
    """
    try:
        bounds = Bounds(path.stat().st_size, zipped=zipped)
        if zipped:
            sizes = check_archive(path)
            bounds.follow(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl"))
            _check_storages(path, bounds.storages, sizes)
        else:
            _check_old_file(path, bounds)
    except OutOfBoundsError as error:
        raise CheckpointError(
            f"{path.name} was refused: it {error}. A model's weights need nothing of the kind; download the file from "
            "its publisher, or use a safetensors file."
        ) from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except CheckpointError:
        raise
    except (
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        struct.error,
    ) as error:
        raise _damage(path) from error


def _check_storages(path: Path, storages: dict[str, Storage], sizes: dict[str, int]) -> None:
    """Check the sizes of the records of all storages: PyTorch reads the bytes behind a shorter one as its values."""
    for key, storage in storages.items():
        size = sizes.get(f"data/{key}")
        if size != storage.num_bytes:
            found = "is missing" if size is None else f"has {size:,} bytes"
            raise CheckpointError(
                f"{path.name} is damaged: the record data/{shown(key)} {found}, but its tensor has "
                f"{storage.num_bytes:,}. Download it again."
            )


def _check_old_file(path: Path, bounds: Bounds) -> None:
    """Check the five pickles before the tensors in a file that is not a zip archive."""
    with path.open("rb") as file:
        head = file.read(LARGEST_PICKLE)
        incomplete = bool(file.read(1))
    with suppress(tarfile.TarError):  # PyTorch would look for tensors in it
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        raise _damage(path)
    try:
        magic, at = bounds.follow(head)
        if magic != _MAGIC:
            return  # PyTorch reads no further either
        for _ in ("protocol", "system", "content"):
            _, at = bounds.follow(head, at)
        stored, _ = bounds.follow(head, at)
    except (IndexError, ValueError, struct.error) as error:
        if incomplete:
            raise CheckpointError(too_long(path, LARGEST_PICKLE)) from error
        raise
    # PyTorch would leave the memory of a missing one as it is.
    if not isinstance(stored, list) or sorted(stored) != sorted(bounds.storages):
        raise _damage(path)


def _damage(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is a damaged or incomplete PyTorch file. Download it again."
    )


def _refusal(path: Path, message: str) -> str:
    name = re.search(r"GLOBAL ([\w.]+)", message)
    what = f"Python objects ({shown(name[1])})" if name else "something other than tensors"
    return (
        f"{path.name} was refused: it contains {what}, which could run code. Nothing in it was "
        "run. Use a safetensors file, or ask its author for a file that contains only weights."
    )
