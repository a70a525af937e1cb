"""The zip archives in which PyTorch stores pickles: every reader must find the same records in them.

Here, archives are read by `zipfile`, then by PyTorch. Data before an archive or behind it, a directory at a shifted
offset, and records that share bytes or names would allow a file to show each reader other content.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from ...errors import CheckpointError
from ...wording import shown
from .stand_ins import OutOfBoundsError

LARGEST_PICKLE = 64_000_000
"""Most bytes of the list of tensors; that of the largest official file has half a million."""
_LARGEST_DIRECTORY = 32_000_000
"""Most bytes of an archive's list of records."""

_END = struct.Struct("<4s4H2IH")
"""Signature, disks, numbers of records, size and offset of the directory, length of the comment."""
_LOCATOR = struct.Struct("<4sIQI")
"""Signature, disk and offset of the wide end record, number of disks."""
_WIDE_END = struct.Struct("<4sQ2H2I4Q")
"""As `_END` with 64 bits, its own size and two versions before."""
_UNSET = 0xFFFFFFFF
"""In `_END`: the value is in the wide end record."""


def check_archive(path: Path) -> dict[str, int]:
    """Return the size of each record in bytes, by its name within the archive's folder.

    Raises:
        CheckpointError: for an archive that is truncated, or not of PyTorch.
        OutOfBoundsError: if readers could find different records.
        RuntimeError: if PyTorch cannot open it.
        ValueError: if the names of the records are damaged.
    """
    try:
        with _Directory(path) as file:
            consistent = _ends_once(file)
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                directory = archive.start_dir
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path.name} is truncated: the end of the archive is missing. Download it again."
        ) from error
    _check_entries(path, entries)
    reader = torch._C.PyTorchFileReader(str(path))
    names = [entry.orig_filename.partition("/")[2] for entry in entries]
    if not consistent or reader.get_all_records() != names:
        raise OutOfBoundsError("has a list of records that programs read differently")
    if len({name.lower() for name in names}) < len(names):
        raise OutOfBoundsError("has two records with the same name")
    _check_places(reader, dict(zip(names, entries, strict=True)), directory)
    return {name: entry.file_size for name, entry in zip(names, entries, strict=True)}


class _Directory(io.FileIO):
    """A file for `zipfile`, which reads the list of records at once, whatever its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGEST_DIRECTORY:
            raise OutOfBoundsError(f"has a list of records of {size / 1e6:.0f} MB")
        return super().read(size) or b""


def _ends_once(file: io.FileIO) -> bool:
    """Return whether the directory and the end records fill the end of the file, so that no reader has a choice."""
    end = file.seek(0, os.SEEK_END) - _END.size
    fields = _at(file, end, _END)
    if fields is None or fields[0] != b"PK\5\6" or fields[-1]:
        return False
    size, offset = fields[5:7]
    locator = _at(file, end - _LOCATOR.size, _LOCATOR)
    if locator is not None and locator[0] == b"PK\6\7":
        end -= _LOCATOR.size + _WIDE_END.size
        wide = _at(file, end, _WIDE_END)
        if wide is None or wide[0] != b"PK\6\6" or wide[1] != _WIDE_END.size - 12:
            return False
        if locator[2] != end or size not in (_UNSET, wide[8]) or offset not in (_UNSET, wide[9]):
            return False
        size, offset = wide[8:10]
    return offset + size == end


def _at(file: io.FileIO, offset: int, form: struct.Struct) -> tuple[Any, ...] | None:
    """Return the fields at an offset; None outside the file."""
    if offset < 0:
        return None
    file.seek(offset)
    found = file.read(form.size)
    return form.unpack(found) if len(found) == form.size else None


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
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
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise CheckpointError(
                f"{path.name} is a zip archive with compressed records, which PyTorch does not write. Use the file "
                "as it was published."
            )
        if Path(entry.filename).name == "data.pkl" and entry.file_size > LARGEST_PICKLE:
            raise CheckpointError(too_long(path, entry.file_size))


def _check_places(
    reader: torch._C.PyTorchFileReader, entries: dict[str, zipfile.ZipInfo], directory: int
) -> None:
    """Check that every record has its own bytes, which are the same for PyTorch."""
    size_of = getattr(reader, "get_record_size", None)  # absent from older versions
    free = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].header_offset):
        start = reader.get_record_offset(name)  # pyright: ignore[reportAttributeAccessIssue]
        if not free <= entry.header_offset < start:
            raise OutOfBoundsError(f"has records that overlap ({shown(name)})")
        free = start + entry.file_size
        if size_of is not None and size_of(name) != entry.file_size:
            raise OutOfBoundsError(f"has a record that programs read differently ({shown(name)})")
    if free > directory:
        raise OutOfBoundsError("has records that overlap its list of records")


def too_long(path: Path, size: int) -> str:
    """Return the message about a list of tensors that is too long."""
    return (
        f"{path.name} is not a checkpoint: its list of tensors alone has {size / 1e6:.0f} MB. Choose the file with "
        "the model's weights."
    )
