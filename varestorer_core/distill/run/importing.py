"""A run that begins with exported files: their weights become the results of its stages.

The states have no optimiser, and a stage that continues from one starts at step 0 with a new one. There is no teacher,
so the KL divergence is left out until one is trained.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ... import json_text
from ...atomic import write_atomically
from ...checkpoint import load_tokenizer, load_transformer, read_checkpoint
from ...checkpoint.save import sha256
from ...config import to_dict
from ...errors import CheckpointError, SettingError
from ...models.tokenizer import VisualTokenizer
from ...models.transformer import VARTransformer
from ..state import write_whole
from .lock import locked
from .settings import RunSettings

_KEY = "imported"
"""Key of config.json with the files' names and hashes."""


def run_import(settings: RunSettings, model: Path, vae: Path) -> list[Path]:
    """Begin a run with a student and its tokenizer, and return the files that were written.

    Args:
        settings: only `out` is used, which must not hold a run.
        model: whole student, without adapters, such as `varestorer distill export` writes.
        vae: its tokenizer; its encoder and decoder also stand for those of later stages.

    Raises:
        CheckpointError: if a file is damaged or of another kind, or if they do not belong together.
        SettingError: if `out` holds a run already.
    """
    out = settings.out
    with locked(out):
        if found := [
            path for path in (out / "config.json", *out.glob("*/state.pt")) if path.exists()
        ]:
            raise SettingError(
                f"{out} holds a run already ({found[0].name}). Choose another --out."
            )
        student, tokenizer = _student(model), _tokenizer(vae)
        if student.config.codebook_dim != tokenizer.config.codebook_dim:
            raise CheckpointError(
                f"{model.name} uses {student.config.codebook_dim} bits per token, but {vae.name} uses "
                f"{tokenizer.config.codebook_dim}. Use a model and a tokenizer that belong together."
            )
        states = {
            "tokenizer": {"tokenizer": tokenizer},
            "student": {"student": student, "decoder": tokenizer.decoder},
        }
        written = []
        for stage, modules in states.items():
            weights = {name: module.state_dict() for name, module in modules.items()}
            written.append(out / stage / "state.pt")
            write_whole(written[-1], {"step": 0, "modules": weights})
        shapes = {
            "tokenizer": to_dict(tokenizer.config),
            # Of the teacher, from whose shape a run derives the student's.
            "transformer": to_dict(dataclasses.replace(student.config, lq_prior=False)),
        }
        record = {
            role: {"file": path.name, "sha256": sha256(path)}
            for role, path in (("model", model), ("vae", vae))
        }
        content = json.dumps({**shapes, _KEY: record}, indent=2).encode()
        write_atomically(out / "config.json", content, CheckpointError)
        return [*written, out / "config.json"]


def lacks_teacher(settings: RunSettings) -> bool:
    """Return whether the run began with exported files, and no teacher has been trained in it."""
    path = settings.out / "config.json"
    if settings.base is not None or (settings.out / "teacher" / "state.pt").exists():
        return False
    return path.exists() and _KEY in json_text.read(path)


def _student(path: Path) -> VARTransformer:
    tensors, metadata = read_checkpoint(path, kind="transformer")
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
    tensors, metadata = read_checkpoint(path, kind="tokenizer")
    return load_tokenizer(tensors, metadata, name=path.name, consume=True)
