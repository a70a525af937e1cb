"""The safetensors format: reading with checks that name the damage, writing one tensor at a time.

Layout: 8 bytes header length (little endian), a JSON header (name to dtype, shape and byte range,
plus string metadata), then the tensors without gaps. The library's own writer needs every tensor in
memory at once; ours asks for each when its turn comes, so a conversion needs little more than the
largest tensor. Nothing appears under the final name before the file is complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..atomic import atomic_file
from ..errors import CheckpointError, VARestorerError
from ..wording import shown

MAX_HEADER = 100_000_000  # the format's own limit

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
    """A tensor that is made when its turn to be written comes."""

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
        path: of the file.
        keep: which names to read; default all.

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
    """Check that the file holds all that its header promises, and return its metadata.

    Raises:
        CheckpointError: naming what is wrong.
    """
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
        header: dict[str, Any] = json.loads(raw)
        metadata = {str(k): str(v) for k, v in (header.pop("__metadata__", None) or {}).items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{path.name} is not a safetensors file, or its header is damaged. Download it again."
        ) from error
    if size < 8 + length + end:
        raise CheckpointError(
            f"{path.name} is truncated: it has {size} of {8 + length + end} bytes. "
            "Download it again."
        )
    return metadata


def write_safetensors(
    path: Path,
    sources: Sequence[TensorSource],
    metadata: Mapping[str, str],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a file that is either complete or absent; an earlier file survives a failure.

    Args:
        path: of the file; its folder must exist.
        sources: of the tensors; each is made, written and released in turn.
        metadata: string metadata.
        on_progress: called with bytes done and in all.

    Raises:
        VARestorerError: if the file cannot be written.
    """
    # Wide types first, so that every tensor is aligned to its own size.
    ordered = sorted(sources, key=lambda source: -source.dtype.itemsize)
    total = sum(source.num_bytes for source in ordered)
    with atomic_file(path, total) as file:
        file.write(_header(ordered, metadata))
        done = 0
        for source in ordered:
            tensor = source.make()
            if tensor.dtype != source.dtype or tuple(tensor.shape) != source.shape:
                raise VARestorerError(
                    f"{source.name} was announced as {source.dtype} {source.shape}, got "
                    f"{tensor.dtype} {tuple(tensor.shape)}."
                )
            file.write(_bytes(tensor))
            done += source.num_bytes
            if on_progress is not None:
                on_progress(done, total)


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
    # The data starts at a multiple of 64, so that kernels find it aligned in the mapped file.
    raw += b" " * (-(8 + len(raw)) % 64)
    return len(raw).to_bytes(8, "little") + raw


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
