"""Export of a run's results to the files that the rest of the package loads."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, SettingError
from ...lora.factors import adapter_rank
from ...lora.recommended import Recommended
from ..export import (
    export_adapter,
    export_base,
    export_model,
    last_figures,
    last_step,
    trained_weights,
)
from ..held_out import worse_than_input
from ..stage_names import StageName
from ..state import state_step
from .config import base_record, load_config, new_config_removed, with_own_config
from .importing import stages_before_imported_student
from .networks import adapted_tokenizer, crisp_tokenizer, trained_student, trained_teacher
from .record import read_record, stages_before, trained_after
from .settings import RunSettings

_EXPORTED: tuple[StageName, ...] = ("student", "student_decoder", "crisp_decoder")
"""Stages whose results are exported, and that are trained on others."""
_log = logging.getLogger(__name__)


def run_export(
    settings: RunSettings,
    note: str,
    name: str = "tiny",
    recommended: Recommended | None = None,
) -> list[Path]:
    """Write the results of a run as safetensors and return the paths.

    These are the student and the tokenizer; for a student with adapters, the adapter and, unless it is a file already,
    its base. A tokenizer from a file is only written if its encoder was fine-tuned. A crisp decoder is written in a
    separate tokenizer.

    Args:
        recommended: recommendations to store in an adapter; only possible for adapters.
    """
    record = base_record(settings)
    adapted = (settings.out / "encoder" / "state.pt").exists()
    if record and adapted and settings.base is None:
        raise CheckpointError(
            f"The run in {settings.out} fine-tuned the encoder of a tokenizer from a file, whose decoder the "
            "export needs. Specify the run's files again: --base and --vae."
        )
    if record and settings.base is None:
        settings = load_config(settings, settings.out / "config.json")
        weights = trained_weights(settings.out / "student" / "state.pt", "student")
    else:
        with new_config_removed(settings):
            settings = with_own_config(settings)
            weights = trained_weights(settings.out / "student" / "state.pt", "student")
    folder = settings.out / "export"
    training = _checked_student(settings)
    metrics = last_figures(settings.out / "student" / "log.csv")
    if problem := worse_than_input(metrics):
        _log.warning("the student that is exported is of little use: its %s", problem)
    rank = adapter_rank({key: tuple(value.shape) for key, value in weights.items()})
    if rank == 0 and recommended is not None:
        raise SettingError(
            "--task and --recommend need an adapter, but all weights of this student were trained. "
            "Train it with --rank."
        )
    written = []
    # A student that was trained without cross-scale attention also restores without it.
    cross_scale = not training.get("settings", {}).get("causal", False)
    if rank == 0:
        student = trained_student(settings)
        student.config = dataclasses.replace(student.config, cross_scale=cross_scale)
        written.append(
            export_model(
                student,
                folder / f"{name}_transformer.safetensors",
                note,
                training,
            )
        )
    else:
        config = dataclasses.replace(settings.transformer, lora_rank=rank, cross_scale=cross_scale)
        if record:
            # Regardless of its training tiles, it belongs to the base, which declares its own tile.
            config = dataclasses.replace(config, pixel_class=record["base"]["pixel_class"])
            base_sha256 = record["base"]["sha256"]
        else:
            path = folder / f"{name}_base.safetensors"
            base_sha256 = export_base(trained_teacher(settings), path, note)
            written.append(path)
        path = folder / f"{name}_adapter.safetensors"
        export_adapter(
            weights,
            config,
            path,
            note,
            base_sha256=base_sha256,
            metrics=metrics,
            training=training,
            recommended=recommended,
        )
        written.append(path)
    for kind in ("transformer", "base", "adapter"):
        path = folder / f"{name}_{kind}.safetensors"
        if path.exists() and path not in written:
            _log.warning(
                "%s is from an earlier training of this run: remove it if it is not needed", path
            )
    crisp = None if record else crisp_tokenizer(settings)
    for end, tokenizer in (
        ("", adapted_tokenizer(settings) if not record or adapted else None),
        ("_crisp", crisp),
    ):
        if tokenizer is not None:
            pixel_class = settings.transformer.pixel_class
            tokenizer.config = dataclasses.replace(tokenizer.config, pixel_class=pixel_class)
            written.append(
                export_model(tokenizer, folder / f"{name}_tokenizer{end}.safetensors", note)
            )
    return written


def _trained_since(stage: StageName, settings: RunSettings) -> list[str]:
    """Return a sentence for each stage that was trained after a stage that depends on it."""
    folder = settings.out / stage
    if not (folder / "state.pt").exists():
        return []
    step = state_step(folder / "state.pt")
    imported = stages_before_imported_student(settings) if stage == "student" else None
    # The record of an imported student is that of the training which begins with it.
    before = imported if imported is not None and step == 0 else trained_after(folder, step)
    if before is None:
        return []
    now = stages_before(stage, settings.out)
    return [
        f"the {name} has been trained since the {stage} was"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


def _checked_student(settings: RunSettings) -> dict[str, Any]:
    """Return the record of the student's training, with the step that is exported.

    Raises:
        CheckpointError: if the state is older than what the run reached, or if a state that is exported is older than
            the stages it was trained on.
    """
    folder = settings.out / "student"
    state = folder / "state.pt"
    if not state.exists():
        return {}  # reading the weights raises an error that says what is missing
    record = read_record(folder)["settings"]
    step, logged = state_step(state), last_step(folder / "log.csv")
    problems = []
    if logged > step:
        problems.append(f"the run reached step {logged}, the last saved one is {step}")
    for stage in _EXPORTED:
        problems += _trained_since(stage, settings)
    if problems and not settings.allow_changes:
        raise CheckpointError(
            f"{state} is not the run's last result: {'; '.join(problems)}. Train the older stages first, the student "
            "with --resume and more --steps, decoders with --overwrite, or use --allow-changes to export it anyway."
        )
    for problem in problems:
        _log.warning("exporting an older state: %s", problem)
    steps = record["loop"]["steps"] if record else None
    _log.info("exporting the student at step %d%s", step, f" of {steps}" if steps else "")
    return {**record, "step": step}
