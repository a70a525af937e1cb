"""Reading of PyTorch pickles (.pth, .pt, .ckpt, .bin) without running code in them.

They are opened only by `torch.load(weights_only=True)`. TorchScript archives are rejected before that, since
old versions of PyTorch would pass them to another loader that ignores the restriction.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..tiles.batching import is_out_of_memory
from ..wording import shown

_OTHER_LOADERS = {".safetensors"}
"""Extensions for which newer versions of PyTorch choose another format."""

_LARGEST_PICKLE = 64_000_000
"""Most bytes of the list of tensors; that of the largest official file has half a million."""


def read_pickle(path: Path, *, zipped: bool) -> Any:
    """Return what the file holds: containers of tensors on the CPU, mapped if the format allows.

    Args:
        zipped: whether it is a zip archive, like all but old files.

    Raises:
        CheckpointError: for a file that is truncated, contains objects other than tensors, or is not a
            checkpoint.
    """
    if zipped:
        _check_archive(path)
    try:
        if path.suffix in _OTHER_LOADERS:
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except (RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{path.name} is a damaged or incomplete PyTorch file. Download it again."
        ) from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path.name} is truncated: the end of the archive is missing. Download it again."
        ) from error
    files = {Path(entry.filename).name for entry in entries}
    if "constants.pkl" in files:
        raise CheckpointError(
            f"{path.name} is a TorchScript program, not a checkpoint. Use the file with the "
            "weights."
        )
    if "data.pkl" not in files:
        raise CheckpointError(
            f"{path.name} is a zip archive, not a checkpoint. If the weights are inside, unpack it."
        )
    for entry in entries:
        # PyTorch stores records uncompressed. A compressed one may unpack to any size.
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"{path.name} is a zip archive with compressed records, which PyTorch does not write. Use the file "
                "as it was published."
            )
        if Path(entry.filename).name == "data.pkl" and entry.file_size > _LARGEST_PICKLE:
            raise CheckpointError(
                f"{path.name} is not a checkpoint: its list of tensors alone has "
                f"{entry.file_size / 1e6:.0f} MB."
            )


def _refusal(path: Path, message: str) -> str:
    name = re.search(r"GLOBAL ([\w.]+)", message)
    what = f"Python objects ({shown(name[1])})" if name else "something other than tensors"
    return (
        f"{path.name} was refused: it contains {what}, which could run code. Nothing in it was "
        "run. Use a safetensors file, or ask its author for a file that contains only weights."
    )
