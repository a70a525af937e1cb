"""Examination of one checkpoint file, including values and checksums: what `varestorer inspect` reports.

Our safetensors contain a SHA-256 of their tensors, zipped checkpoints a CRC-32 of each record. Safetensors of other
programs, ours up to version 0.1.0, and pickles that are not zip archives have neither.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..config import TransformerConfig
from ..errors import CheckpointError, VARestorerError
from ..lora.factors import TEXT_BIAS, low_ranks, pair_problems, split_adapter
from ..lora.spellings import our_spelling
from ..wording import shown
from .check import (
    expected_parameters,
    key_problems,
    unused_names,
    unused_note,
    value_problems,
)
from .files import check_file, checkpoint_files, damage_named, file_format, read_checkpoint
from .identify import CheckpointInfo, identify
from .keys import rename_tensors
from .safetensors_file import TENSORS_SHA256, check_header, tensors_sha256

_OTHER_ADAPTER = "an adapter for a VARestorer transformer that cannot be used"


@dataclass(frozen=True)
class FileReport:
    """A checkpoint, its file and all problems found."""

    path: Path
    size: int
    """Size in bytes, of all files that belong to the checkpoint."""
    metadata: dict[str, str]
    info: CheckpointInfo


def examine(path: str | Path, *, verify: bool = False) -> FileReport:
    """Read a checkpoint and check its keys and values.

    Args:
        path: as for `read_checkpoint`.
        verify: also compare our safetensors with the SHA-256 in them, which reads them once more.

    Raises:
        CheckpointError: if it cannot be read at all.
    """
    path = Path(path)
    tensors, metadata = read_checkpoint(path)
    try:
        tensors = our_spelling(tensors, metadata)
        info = identify(tensors, metadata)
    except CheckpointError as error:
        info = identify(tensors, metadata)
        info = replace(info, description=_OTHER_ADAPTER, problems=(str(error),))
    problems = [*info.problems, *value_problems(tensors)]
    problems += _checksum_problems(path, verify)
    details = dict(info.details)
    if verify:
        details["checksums"] = _checksums(path)
    try:
        tensors = rename_tensors(tensors, info.kind)
        with damage_named("The file"):
            problems += network_problems(tensors, info)
            if unused := unused_parameters(tensors, info):
                details["left over"] = unused_note(unused)
    except CheckpointError as error:
        problems.append(str(error))
    if info.kind == "transformer":
        details["role"] = _role(tensors)
    try:
        if not problems:
            _try_loading(path, tensors, info.kind)
    except CheckpointError as error:
        problems.append(str(error))
    except VARestorerError as error:  # a package that is not installed
        details["not checked"] = f"whether it loads: {error}"
    info = replace(info, details=details, problems=tuple(dict.fromkeys(problems)))
    return FileReport(path=path, size=_size(path), metadata=metadata, info=info)


def _try_loading(path: Path, tensors: dict[str, Tensor], kind: str) -> None:
    """Build the networks that other packages load, since only they can determine whether it succeeds.

    Raises:
        CheckpointError: with the reason why loading would fail.
        VARestorerError: if the package is not installed.
    """
    if kind == "cleaner":
        from ..cleaner import load_cleaner

        load_cleaner(dict(tensors), name=path.name)
    elif kind == "text_encoder" and path.is_dir():
        from ..text_encoder import check_folder

        check_folder(path, tensors)


def verify(path: str | Path) -> bool:
    """Compare a checkpoint with its checksums, and return whether all of its files have one.

    Args:
        path: a file, or the folder or index of a text encoder.

    Raises:
        CheckpointError: for a file that cannot be read or was changed after it was written.
    """
    path = Path(path)
    found = True
    with damage_named(path.name):
        for file in checkpoint_files(path):
            found &= _has_checksum(file)
            if problem := _checksum_problem(file):
                raise CheckpointError(f"{file.name}: {problem}")
    return found


def _checksum_problem(path: Path) -> str | None:
    """Return a sentence if a file does not match its checksum; None if it does, or has none."""
    form = file_format(path)
    if form == "zip":
        check_file(path)  # otherwise a record could unpack to any size
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
        if record is not None:
            return (
                f"The record {shown(record)} does not match its checksum: the file was damaged in transfer. "
                "Download it again."
            )
    elif form == "safetensors":
        expected = check_header(path).get(TENSORS_SHA256)
        if expected is not None and expected != (found := tensors_sha256(path)):
            return (
                f"The tensors do not match the SHA-256 in the metadata ({shown(expected)[:12]}..., found "
                f"{found[:12]}...): the file was damaged or changed after it was written. Download or create it again."
            )
    return None


def _has_checksum(path: Path) -> bool:
    """Return whether a file has a checksum."""
    form = file_format(path)
    return form == "zip" or (form == "safetensors" and TENSORS_SHA256 in check_header(path))


def _checksum_problems(path: Path, verify: bool) -> list[str]:
    """Return sentences about files that do not match their checksums."""
    problems = []
    with damage_named(path.name):
        for file in checkpoint_files(path):
            # Those of zip archives are always compared: it takes no longer than reading the values.
            if verify or file_format(file) == "zip":
                problems.append(_checksum_problem(file))
    return [problem for problem in problems if problem]


def _checksums(path: Path) -> str:
    """Return which checksums the files have, in words."""
    bare = [file for file in checkpoint_files(path) if not _has_checksum(file)]
    if not bare:
        return "compared"
    return (
        f"none in {bare[0].name}: other programs write none, and neither did version 0.1.0. Damage to its bytes "
        "cannot be detected"
    )


def network_problems(tensors: Mapping[str, Tensor], info: CheckpointInfo) -> list[str]:
    """Return sentences about why tensors, by our names, do not fit their network.

    Raises:
        CheckpointError: if adapters fit no weight.
    """
    if info.kind == "adapter":
        return pair_problems(tensors)
    expected = _expected(info)
    if expected is None:
        return []
    base, adapter = split_adapter(tensors)
    problems = key_problems(base, expected)
    if not problems:
        low_ranks(base, adapter)
    return problems


def unused_parameters(tensors: Mapping[str, Tensor], info: CheckpointInfo) -> list[str]:
    """Return the names of tensors, by our names, that are not used when their network is loaded."""
    expected = _expected(info)
    return [] if expected is None else unused_names(split_adapter(tensors)[0], expected)


def _expected(info: CheckpointInfo) -> dict[str, Tensor] | None:
    """Return the parameters of the network in a file; None if there is none."""
    config = info.config
    if info.kind not in ("transformer", "tokenizer") or config is None:
        return None
    if isinstance(config, TransformerConfig):
        config = replace(config, lora_rank=0)
    return expected_parameters(config)


def _role(tensors: Mapping[str, Tensor]) -> str:
    """Return a transformer's role in words; merged adapters are recognised by the zero bias they leave."""
    if split_adapter(tensors)[1]:
        return "student with separate adapters"
    biases = [tensor for name, tensor in tensors.items() if name.endswith(TEXT_BIAS)]
    if not any(bool(bias.any()) for bias in biases):
        return "student with merged adapters (ca.v_bias is zero)"
    return "base or teacher (ca.v_bias is in use; with merged adapters it would have to be zero)"


def _size(path: Path) -> int:
    if path.name.endswith(".index.json"):
        path = path.parent
    files = [path] if path.is_file() else [f for f in path.iterdir() if f.is_file()]
    return sum(file.stat().st_size for file in files)
