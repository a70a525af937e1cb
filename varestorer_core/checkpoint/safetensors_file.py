"""The safetensors format: reading with checks that describe the damage, writing one tensor at a time.

Layout: 8 bytes header length (little endian), a JSON header (name to dtype, shape and byte range,
plus string metadata), then the tensors without gaps. The library's own writer needs every tensor in
memory at once; ours creates each when it is written, so a conversion needs little more memory than the
largest tensor. Nothing appears under the final name before the file is complete.

Files that we write contain a SHA-256 in their metadata. It is a hash of the tensors, not of the file: it stays valid
if another program reorders them or adds metadata, and detects a change of any name, dtype, shape or value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import json_text
from ..atomic import atomic_file
from ..errors import CheckpointError, VARestorerError
from ..wording import shown

MAX_HEADER = 100_000_000  # the format's own limit

MOST_TENSORS = 50_000
"""Most tensors of a file, many times as many as a supported network has."""

TENSORS_SHA256 = "varestorer.tensors_sha256"
"""Metadata key of the hash of the tensors."""

_CHUNK = 1 << 24  # bytes read at once

_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class TensorSource:
    """A tensor that is created when it is written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Size in the file."""
        count = 1
        for side in self.shape:
            count *= side
        return count * self.dtype.itemsize


def read_safetensors(
    path: Path, keep: Callable[[str], bool] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, backed by the mapped file, and the metadata.

    Args:
        path: path of the file.
        keep: returns whether to read a name; default all.

    Raises:
        CheckpointError: for a file that is truncated, damaged or not safetensors.
    """
    metadata = check_header(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = [name for name in file.keys() if keep is None or keep(name)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path.name} is a damaged safetensors file ({shown(error)}). Download it again."
        ) from error


def check_header(path: Path) -> dict[str, str]:
    """Check that the file contains everything that its header lists, and return its metadata.

    Raises:
        CheckpointError: naming the problem.
    """
    return _read_header(path)[1]


def tensors_sha256(path: Path) -> str:
    """Return the hash of the tensors of a file, as stored in our files under `TENSORS_SHA256`.

    Raises:
        CheckpointError: for a file that is truncated, damaged or not safetensors.
    """
    header, _, start = _read_header(path)
    lines: list[str] = []
    # Not mapped: truncating a mapped file would end the process.
    with path.open("rb") as file:
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            digest, left = hashlib.sha256(), end - begin
            while left > 0 and (chunk := file.read(min(left, _CHUNK))):
                digest.update(chunk)
                left -= len(chunk)
            lines.append(_hash_line(name, entry["dtype"], entry["shape"], digest.hexdigest()))
    return _combined(lines)


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Return the entries of the tensors, the metadata, and the offset of the first tensor."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size >= 8 and length > MAX_HEADER:
            raise CheckpointError(
                f"{path.name} is not a safetensors file: its header would be {length} bytes long. "
                "It has another format, or is damaged; download it again."
            )
        if size < 8 or size < 8 + length:
            raise CheckpointError(
                f"{path.name} is truncated: it ends inside its header, after {size} bytes. "
                "Download it again."
            )
        raw = file.read(length)
    try:
        header: dict[str, Any] = json_text.loads(raw)
        metadata = {str(k): str(v) for k, v in (header.pop("__metadata__", None) or {}).items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, OverflowError, AttributeError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{path.name} is not a safetensors file, or its header is damaged. Download it again."
        ) from error
    if len(header) > MOST_TENSORS:
        raise CheckpointError(too_many(path.name, len(header)))
    if size < 8 + length + end:
        raise CheckpointError(
            f"{path.name} is truncated: it has {size} of {8 + length + end} bytes. "
            "Download it again."
        )
    return header, metadata, 8 + length


def too_many(name: str, count: int) -> str:
    """Return the message about a file with more than `MOST_TENSORS` tensors."""
    return (
        f"{name} has {count:,} tensors, more than any supported model (at most {MOST_TENSORS:,}). Choose the file "
        "with the model's weights."
    )


def write_safetensors(
    path: Path,
    sources: Sequence[TensorSource],
    metadata: Mapping[str, str],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a file that is either complete or absent; an earlier file survives a failure.

    The hash of the tensors is added to the metadata under `TENSORS_SHA256`.

    Args:
        path: path of the file; its folder must exist.
        sources: sources of the tensors; each is created, written and released in turn.
        metadata: string metadata.
        on_progress: called with (bytes written, bytes in total).

    Raises:
        VARestorerError: if the file cannot be written.
    """
    # Wide types first, so that every tensor is aligned to its own size.
    ordered = sorted(sources, key=lambda source: -source.dtype.itemsize)
    total = sum(source.num_bytes for source in ordered)
    with atomic_file(path, total) as file:
        # The hash is part of the header but known last: zeros reserve its place.
        file.write(_header(ordered, {**metadata, TENSORS_SHA256: "0" * 64}))
        done = 0
        lines: list[str] = []
        for source in ordered:
            tensor = source.make()
            if tensor.dtype != source.dtype or tuple(tensor.shape) != source.shape:
                raise VARestorerError(
                    f"{source.name} was announced as {source.dtype} {source.shape}, got "
                    f"{tensor.dtype} {tuple(tensor.shape)}."
                )
            content = _bytes(tensor)
            file.write(content)
            digest = hashlib.sha256(content).hexdigest()
            lines.append(_hash_line(source.name, _NAMES[source.dtype], source.shape, digest))
            done += source.num_bytes
            if on_progress is not None:
                on_progress(done, total)
        file.seek(0)
        file.write(_header(ordered, {**metadata, TENSORS_SHA256: _combined(lines)}))


def _hash_line(name: str, dtype: str, shape: Sequence[int], digest: str) -> str:
    """Return the line for one tensor in the hash of all; `digest` is the hash of its bytes."""
    return json.dumps([name, dtype, list(shape), digest])


def _combined(lines: Sequence[str]) -> str:
    """Return the hash of tensors in any order."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _header(sources: Sequence[TensorSource], metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for source in sources:
        if source.dtype not in _NAMES:
            raise VARestorerError(f"{source.name}: {source.dtype} has no safetensors equivalent.")
        stop = offset + source.num_bytes
        header[source.name] = {
            "dtype": _NAMES[source.dtype],
            "shape": list(source.shape),
            "data_offsets": [offset, stop],
        }
        offset = stop
    raw = json.dumps(header, separators=(",", ":")).encode()
    # The data starts at a multiple of 64 bytes, so that it is aligned in the mapped file.
    raw += b" " * (-(8 + len(raw)) % 64)
    return len(raw).to_bytes(8, "little") + raw


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
