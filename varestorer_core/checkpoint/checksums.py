"""Whether a file still has the bytes that were written: SHA-256 in our safetensors, CRC-32 in zipped checkpoints.

Safetensors of other programs, ours up to version 0.1.0, and pickles that are no zip have neither.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..errors import CheckpointError
from ..wording import shown
from .border import damage_named
from .files import checkpoint_files, file_format
from .safetensors_file import TENSORS_SHA256, check_header, tensors_sha256


def verify(path: str | Path) -> bool:
    """Compare a checkpoint with its checksums; return whether all of its files have some.

    Args:
        path: a file, or the folder or index of a text encoder.

    Raises:
        CheckpointError: for a file that cannot be read or is not as it was written.
    """
    path = Path(path)
    found = True
    with damage_named(path.name):
        for file in checkpoint_files(path):
            found &= has_checksum(file)
            if problem := checksum_problem(file):
                raise CheckpointError(f"{file.name}: {problem}")
    return found


def checksum_problem(path: Path) -> str | None:
    """Return a sentence if a file is not as it was written; None if it is, or if nothing tells."""
    form = file_format(path)
    if form == "zip":
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
        if record is not None:
            return (
                f"The record {shown(record)} does not have its checksum: the file was damaged on its way. "
                "Download it again."
            )
    elif form == "safetensors":
        expected = check_header(path).get(TENSORS_SHA256)
        if expected is not None and expected != (found := tensors_sha256(path)):
            return (
                f"The tensors do not have the SHA-256 in the metadata ({shown(expected)[:12]}..., found "
                f"{found[:12]}...): the file was damaged or changed after it was written. Download or make it again."
            )
    return None


def has_checksum(path: Path) -> bool:
    """Tell whether there is anything to compare a file with."""
    form = file_format(path)
    return form == "zip" or (form == "safetensors" and TENSORS_SHA256 in check_header(path))
