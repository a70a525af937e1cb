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
from ..wording import shown
from .border import damage_named
from .check import (
    expected_parameters,
    key_problems,
    unused_names,
    unused_note,
    value_problems,
)
from .files import file_format, read_checkpoint
from .identify import CheckpointInfo, identify
from .keys import rename_tensors
from .pickles import damaged_record

_TEXT_BIAS = ".ca.v_bias"


@dataclass(frozen=True)
class Report:
    """A checkpoint, its file and all problems found."""

    path: Path
    size: int
    """Bytes, of all files of a folder that belong to it."""
    metadata: dict[str, str]
    info: CheckpointInfo


def examine(path: str | Path) -> Report:
    """Read a checkpoint and check its keys and values.

    Raises:
        CheckpointError: if it cannot be read at all.
    """
    path = Path(path)
    tensors, metadata = read_checkpoint(path)
    tensors = our_spelling(tensors)
    info = identify(tensors, metadata)
    problems = list(info.problems) + value_problems(tensors) + _checksum_problems(path)
    details = dict(info.details)
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


def _checksum_problems(path: Path) -> list[str]:
    """Return a sentence if a record of a zipped checkpoint is not what was written."""
    if not path.is_file() or file_format(path) != "zip":
        return []
    with damage_named(path.name):
        record = damaged_record(path)
    if record is None:
        return []
    return [
        f"The record {shown(record)} does not have its checksum: the file was damaged on its way. Download it again."
    ]


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
