"""Everything about one checkpoint file, values included: what `varestorer inspect` reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..config import TransformerConfig
from ..errors import CheckpointError
from ..lora.factors import low_ranks, split_adapter
from ..lora.spellings import our_spelling
from .border import damage_named
from .check import (
    expected_parameters,
    key_problems,
    unused_names,
    unused_note,
    value_problems,
)
from .checksums import checksum_problem, has_checksum
from .files import checkpoint_files, file_format, read_checkpoint
from .identify import CheckpointInfo, identify
from .keys import rename_tensors

_TEXT_BIAS = ".ca.v_bias"


@dataclass(frozen=True)
class Report:
    """A checkpoint, its file and all problems found."""

    path: Path
    size: int
    """Bytes, of all files of a folder that belong to it."""
    metadata: dict[str, str]
    info: CheckpointInfo


def examine(path: str | Path, *, verify: bool = False) -> Report:
    """Read a checkpoint and check its keys and values.

    Args:
        path: as for `read_checkpoint`.
        verify: also compare safetensors with the SHA-256 that ours carry, which reads them once more.

    Raises:
        CheckpointError: if it cannot be read at all.
    """
    path = Path(path)
    tensors, metadata = read_checkpoint(path)
    tensors = our_spelling(tensors)
    info = identify(tensors, metadata)
    problems = list(info.problems) + value_problems(tensors)
    problems += _checksum_problems(path, verify)
    details = dict(info.details)
    if verify:
        details["checksums"] = _checksums(path)
    try:
        tensors = rename_tensors(tensors, info.kind)
        with damage_named("the file"):
            problems += network_problems(tensors, info)
            if unused := unused_parameters(tensors, info):
                details["left over"] = unused_note(unused)
    except CheckpointError as error:
        problems.append(str(error))
    if info.kind == "transformer":
        details["role"] = _role(tensors)
    info = replace(info, details=details, problems=tuple(dict.fromkeys(problems)))
    return Report(path=path, size=_size(path), metadata=metadata, info=info)


def _checksum_problems(path: Path, verify: bool) -> list[str]:
    """Return sentences about files that are not as they were written."""
    problems = []
    with damage_named(path.name):
        for file in checkpoint_files(path):
            # Those of zips are always compared, as ever: it takes no longer than the values do.
            if verify or file_format(file) == "zip":
                problems.append(checksum_problem(file))
    return [problem for problem in problems if problem]


def _checksums(path: Path) -> str:
    """Say what the files could be compared with."""
    bare = [file for file in checkpoint_files(path) if not has_checksum(file)]
    if not bare:
        return "compared"
    return (
        f"none in {bare[0].name}: other programs write none, and neither did version 0.1.0. Nothing tells whether its "
        "bytes are those that were written"
    )


def network_problems(tensors: Mapping[str, Tensor], info: CheckpointInfo) -> list[str]:
    """Return sentences about what keeps tensors, by our names, from filling their network.

    Raises:
        CheckpointError: if adapters fit nothing.
    """
    expected = _expected(info)
    if expected is None:
        return []
    base, adapter = split_adapter(tensors)
    problems = key_problems(base, expected)
    if not problems:
        low_ranks(base, adapter)
    return problems


def unused_parameters(tensors: Mapping[str, Tensor], info: CheckpointInfo) -> list[str]:
    """Return the names of tensors, by our names, that loading their network leaves alone."""
    expected = _expected(info)
    return [] if expected is None else unused_names(split_adapter(tensors)[0], expected)


def _expected(info: CheckpointInfo) -> dict[str, Tensor] | None:
    """Return the parameters of the network that a file is of, None where there is none."""
    config = info.config
    if info.kind not in ("transformer", "tokenizer") or config is None:
        return None
    if isinstance(config, TransformerConfig):
        config = replace(config, lora_rank=0)
    return expected_parameters(config)


def _role(tensors: Mapping[str, Tensor]) -> str:
    """Say which part a transformer plays; adapters once merged only show by the bias they drop."""
    if split_adapter(tensors)[1]:
        return "student with separate adapters"
    biases = [tensor for name, tensor in tensors.items() if name.endswith(_TEXT_BIAS)]
    if not any(bool(bias.any()) for bias in biases):
        return "student with merged adapters (ca.v_bias is zero)"
    return "base or teacher (ca.v_bias is in use; with merged adapters it would have to be zero)"


def _size(path: Path) -> int:
    if path.name.endswith(".index.json"):
        path = path.parent
    files = [path] if path.is_file() else [f for f in path.iterdir() if f.is_file()]
    return sum(file.stat().st_size for file in files)
