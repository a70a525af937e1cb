"""Running the stages of a run in turn, and exporting what they trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...errors import CheckpointError, SettingError
from ...lora.factors import adapter_rank
from ..export import export_adapter, export_base, export_model, last_figures, trained_weights
from ..loop import LoopSettings
from ..picture_folder import PictureFolder
from ..train_encoder import train_encoder
from ..train_student import train_student
from ..train_teacher import train_teacher
from ..train_tokenizer import train_tokenizer
from .config import base_record, load_config, with_own_config
from .networks import (
    adapted_tokenizer,
    trained_student,
    trained_teacher,
    trained_tokenizer,
)
from .pictures import training_pictures
from .settings import LEARNING_RATES, Report, RunSettings, Stage, reporter, student_rate


def run_stage(stage: Stage, settings: RunSettings, report: Report | None = None) -> None:
    """Train one stage in its subfolder of the run."""
    if settings.base is not None and stage in ("tokenizer", "teacher"):
        raise SettingError(
            f"With --base and --vae there is no {stage} to train: both come from files. Train the student, or "
            "the encoder before it; leave --base and --vae out to train from nothing."
        )
    with settings.processes.first_in_turn():
        settings = with_own_config(settings)
        training, validation = training_pictures(settings, stage, report)
    often = {
        name: getattr(settings, name)
        for name in ("save_every", "evaluate_every")
        if getattr(settings, name) is not None
    }
    loop = LoopSettings(
        steps=settings.steps[stage],
        learning_rate=student_rate(settings)
        if stage == "student"
        else settings.learning_rate or LEARNING_RATES[stage],
        accumulate=settings.accumulate,
        ema=settings.ema,
        tensorboard=settings.tensorboard,
        seed=settings.seed,
        stop_at=settings.stop_at,
        **often,
    )
    common = {
        "resume": settings.resume,
        "device": settings.device,
        "on_progress": reporter(report, stage),
    }
    folder = settings.out / stage
    if stage == "student":
        train_student(
            folder, trained_tokenizer(settings), adapted_tokenizer(settings), trained_teacher(settings),
            training, validation, loop, settings=settings.student_settings,
            prompt=settings.prompt, processes=settings.processes, **common,
        )  # fmt: skip
        return
    assert not isinstance(training, PictureFolder)
    if stage == "tokenizer":
        tokenizer_settings = dataclasses.replace(
            settings.tokenizer_settings, pixel_class=settings.transformer.pixel_class
        )
        train_tokenizer(
            folder, training, validation, loop,
            config=settings.tokenizer, settings=tokenizer_settings, **common,
        )  # fmt: skip
    elif stage == "teacher":
        train_teacher(
            folder, trained_tokenizer(settings), training, validation, loop,
            config=settings.transformer, settings=settings.teacher_settings, **common,
        )  # fmt: skip
    else:
        encoder_settings = dataclasses.replace(
            settings.encoder_settings, pixel_class=settings.transformer.pixel_class
        )
        train_encoder(
            folder, trained_tokenizer(settings), training, validation, loop,
            settings=encoder_settings, **common,
        )  # fmt: skip


def run_export(settings: RunSettings, note: str, name: str = "tiny") -> list[Path]:
    """Write what the run trained as safetensors and return the paths.

    That is the student and the tokenizer; of a student with adapters the adapter and, unless it is a file already,
    the base that it belongs to. A tokenizer from a file is only written if its encoder was fine-tuned.
    """
    record = base_record(settings)
    adapted = (settings.out / "encoder" / "state.pt").exists()
    if record and adapted and settings.base is None:
        raise CheckpointError(
            f"The run in {settings.out} fine-tuned the encoder of a tokenizer from a file, whose other half the "
            "export needs. Give the run's files again: --base and --vae."
        )
    if record and settings.base is None:
        settings = load_config(settings, settings.out / "config.json")
    else:
        settings = with_own_config(settings)
    folder = settings.out / "export"
    weights = trained_weights(settings.out / "student" / "state.pt", "student")
    metrics = last_figures(settings.out / "student" / "log.csv")
    rank = adapter_rank({key: tuple(value.shape) for key, value in weights.items()})
    written = []
    if rank == 0:
        written.append(
            export_model(
                trained_student(settings), folder / f"{name}_transformer.safetensors", note
            )
        )
    else:
        config = dataclasses.replace(settings.transformer, lora_rank=rank)
        if record:
            # Whatever tile it was trained on, it belongs to the base, which names its own.
            config = dataclasses.replace(config, pixel_class=record["base"]["pixel_class"])
            base_sha256 = record["base"]["sha256"]
        else:
            path = folder / f"{name}_base.safetensors"
            base_sha256 = export_base(trained_teacher(settings), path, note)
            written.append(path)
        path = folder / f"{name}_adapter.safetensors"
        export_adapter(weights, config, path, note, base_sha256=base_sha256, metrics=metrics)
        written.append(path)
    if not record or adapted:
        tokenizer = adapted_tokenizer(settings)
        written.append(export_model(tokenizer, folder / f"{name}_tokenizer.safetensors", note))
    return written
