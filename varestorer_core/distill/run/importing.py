"""A run that begins with exported files: their weights become the results of its stages.

The states have no optimiser, and a stage that continues from one starts at step 0 with a new one. There is no teacher,
so the KL divergence is left out until one is trained.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ... import json_text
from ...atomic import write_atomically
from ...checkpoint import identify, load_tokenizer, load_transformer, read_checkpoint
from ...checkpoint.save import sha256
from ...config import to_dict
from ...errors import CheckpointError, SettingError
from ...models.tokenizer import VisualTokenizer
from ...models.transformer import VARTransformer
from ..state import write_whole
from .lock import locked
from .record import stages_before
from .settings import RunSettings

_KEY = "imported"
"""Key of config.json with the files' names and hashes."""
_STAGES = ("tokenizer", "student")
"""Stages that get the imported weights."""
_BEFORE = "before"
"""Key of the record, written last, with step and hash of the states on which the student depends."""


def run_import(settings: RunSettings, model: Path, vae: Path) -> list[Path]:
    """Begin a run with a student and its tokenizer, and return the files that were written.

    An import that was interrupted is done again.

    Args:
        settings: only `out` is used, which must not hold a run.
        model: whole student, without adapters, such as `varestorer distill export` writes.
        vae: its tokenizer; its encoder and decoder also stand for those of later stages.

    Raises:
        CheckpointError: if a file is damaged or of another kind, or if they do not belong together.
        SettingError: if `out` holds a run already.
    """
    student, tokenizer = _student(model), _tokenizer(vae)
    _check_pair(model, student, vae, tokenizer)
    out, config = settings.out, settings.out / "config.json"
    record: dict[str, Any] = {
        role: {"file": path.name, "sha256": sha256(path)}
        for role, path in (("model", model), ("vae", vae))
    }
    content: dict[str, Any] = {
        "tokenizer": to_dict(tokenizer.config),
        # Of the teacher, from whose shape a run derives the student's.
        "transformer": to_dict(dataclasses.replace(student.config, lq_prior=False)),
        _KEY: record,
    }
    states = {
        "tokenizer": {"tokenizer": tokenizer},
        "student": {"student": student, "decoder": tokenizer.decoder},
    }
    with locked(out):
        found = [path for path in (config, *out.glob("*/state.pt")) if path.exists()]
        if found and not is_interrupted(config):
            raise SettingError(
                f"{out} holds a run already ({found[0].name}). Choose another --out."
            )
        # Before the states, so that they are never without their shapes.
        write_atomically(config, json.dumps(content, indent=2).encode(), CheckpointError)
        written = []
        for stage, modules in states.items():
            weights = {name: module.state_dict() for name, module in modules.items()}
            written.append(out / stage / "state.pt")
            write_whole(written[-1], {"step": 0, "modules": weights})
        record[_BEFORE] = stages_before("student", out)
        write_atomically(config, json.dumps(content, indent=2).encode(), CheckpointError)
        return [*written, config]


def is_interrupted(config: Path) -> bool:
    """Return whether the run of a config.json began with an import that did not end."""
    record = _record(config)
    return record is not None and _BEFORE not in record


def is_imported(config: Path) -> bool:
    """Return whether the run of a config.json began with exported files."""
    return _record(config) is not None


def check_complete(config: Path) -> None:
    """Raise an error if the run of a config.json began with an import that did not end, or whose states were removed.

    Raises:
        CheckpointError: naming the command that repeats it.
    """
    out = config.parent
    if is_interrupted(config):
        raise CheckpointError(
            f"The import that began the run in {out} was interrupted. Repeat it: varestorer distill import "
            f"--out {out}"
        )
    states = [out / stage / "state.pt" for stage in _STAGES]
    if is_imported(config) and (missing := [path for path in states if not path.exists()]):
        raise CheckpointError(
            f"{missing[0]} is missing, with which the run in {out} began. Import the files again, into another --out."
        )


def stages_before_imported_student(settings: RunSettings) -> dict[str, Any] | None:
    """Return step and hash of the states that belong to an imported student, or None if the run began otherwise."""
    record = _record(settings.out / "config.json")
    return None if record is None else record.get(_BEFORE)


def lacks_teacher(settings: RunSettings) -> bool:
    """Return whether the run began with exported files, and no teacher has been trained in it."""
    if settings.base is not None or (settings.out / "teacher" / "state.pt").exists():
        return False
    return is_imported(settings.out / "config.json")


def _record(config: Path) -> dict[str, Any] | None:
    """Return the record of the imported files, or None without one or if the file is damaged, which is found later."""
    try:
        record = json_text.read(config).get(_KEY)
    except (OSError, ValueError, AttributeError):
        return None
    return record if isinstance(record, dict) else None


def _check_pair(
    model: Path, student: VARTransformer, vae: Path, tokenizer: VisualTokenizer
) -> None:
    """Raise an error if a student was trained on another tokenizer, as far as their shapes tell."""
    for what, ours, theirs in (
        ("bits per token", student.config.codebook_dim, tokenizer.config.codebook_dim),
        ("tiles of pixel class", student.config.pixel_class, tokenizer.config.pixel_class),
    ):
        if ours != theirs:
            raise CheckpointError(
                f"{model.name} and {vae.name} do not belong together. Expected the same {what}, got {ours} and "
                f"{theirs}."
            )


def _student(path: Path) -> VARTransformer:
    tensors, metadata = _read(
        path, "transformer", "a student such as `varestorer distill export` writes"
    )
    student = load_transformer(tensors, metadata, name=path.name, consume=True)
    if student.config.lora_rank or not student.config.lq_prior:
        raise CheckpointError(
            f"{path.name} is not a student of which every weight was trained. Expected one such as `varestorer distill "
            "export` writes; adapters and full-size models are continued with --base, --vae and --init."
        )
    if not student.config.cross_scale:
        raise CheckpointError(
            f"{path.name} was trained with --no-cross-scale, which an imported run does not continue. Expected a "
            "student with cross-scale attention."
        )
    return student


def _tokenizer(path: Path) -> VisualTokenizer:
    tensors, metadata = _read(path, "tokenizer", "the student's tokenizer")
    return load_tokenizer(tensors, metadata, name=path.name, consume=True)


def _read(path: Path, kind: str, expected: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return tensors and metadata of a file of a kind."""
    tensors, metadata = read_checkpoint(path, kind=kind)
    found = identify(tensors, metadata)
    if found.kind != kind:
        raise CheckpointError(f"{path.name} is {found.description}. Expected {expected}.")
    return tensors, metadata
