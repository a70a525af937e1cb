"""Reading PyTorch pickles (.pth, .pt, .ckpt, .bin) without letting them run code.

Only `torch.load(weights_only=True)` opens them. TorchScript archives are refused before that, since
old versions of PyTorch would hand them to another loader that does not honour the restriction.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError


def read_pickle(path: Path) -> Any:
    """Return what the file holds: containers of tensors on the CPU, mapped if the format allows.

    Raises:
        CheckpointError: for a file that is truncated, holds objects that are not tensors, or is no
            checkpoint.
    """
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped:
        _check_archive(path)
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except (RuntimeError, EOFError, OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{path.name} is a damaged or incomplete PyTorch file. Download it again."
        ) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            files = {Path(name).name for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path.name} is truncated: the end of the archive is missing. Download it again."
        ) from error
    if "constants.pkl" in files:
        raise CheckpointError(
            f"{path.name} is a TorchScript program, not a checkpoint. Use the file with the "
            "weights."
        )
    if "data.pkl" not in files:
        raise CheckpointError(
            f"{path.name} is a zip archive, not a checkpoint. If the weights are inside, unpack it."
        )


def _refusal(path: Path, message: str) -> str:
    name = re.search(r"GLOBAL ([\w.]+)", message)
    what = f"Python objects ({name[1]})" if name else "something other than tensors"
    return (
        f"{path.name} was refused: it contains {what}, which could run code. Nothing in it was "
        "run. Use a safetensors file, or ask its author for one with the weights alone."
    )
