"""Creation and training of the stages of a run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...compiling import compile_networks
from ...errors import SettingError
from ...models.transformer import VARTransformer
from ..held_out import HeldOut
from ..interruption import DeadlineError
from ..loop import LoopSettings, Progress, train
from ..processes import ALONE
from ..sources import PictureSource
from ..stage import Stage, ValidatedStage
from ..train_decoder import DecoderStage
from ..train_encoder import EncoderStage
from ..train_student import StudentSettings, StudentStage
from ..train_teacher import TeacherStage
from ..train_tokenizer import TokenizerStage
from ..warm_start import start_from_adapter
from .config import base_record, new_config_removed, with_own_config
from .importing import lacks_teacher
from .lock import locked
from .networks import adapted_tokenizer, trained_student, trained_teacher, trained_tokenizer
from .pictures import training_source, validation_pictures
from .record import begin, check_start, stage_record
from .settings import (
    LEARNING_RATES,
    OPTIONAL,
    OnProgress,
    RunSettings,
    StageName,
    reporter,
    student_rate,
)

_log = logging.getLogger(__name__)


def run_stage(stage: StageName, settings: RunSettings, report: OnProgress | None = None) -> bool:
    """Train one stage in its subfolder of the run; return whether it is finished.

    Raises:
        Interrupted: on Ctrl-C or SIGTERM, after the state has been saved.
        SettingError: if another process uses the run's folder.
    """
    if settings.base is not None and stage in OPTIONAL:
        raise SettingError(
            f"The stage {stage} trains the decoder of a run's own tokenizer, got --base and --vae. Train the "
            "encoder or the student; the decoder of a file is not changed."
        )
    if settings.base is not None and stage in ("tokenizer", "teacher"):
        raise SettingError(
            f"With --base and --vae there is no {stage} to train: both come from files. Train the student, or "
            "the encoder before it; leave --base and --vae out to train from scratch."
        )
    with locked(settings.out) if settings.processes.first else nullcontext():
        return _run_stage(stage, settings, report)


def _run_stage(stage: StageName, settings: RunSettings, report: OnProgress | None) -> bool:
    with new_config_removed(settings):
        with settings.processes.first_in_turn():
            settings = _without_teacher(stage, with_own_config(settings))
            loop = loop_settings(stage, settings)
        # Before pictures are drawn and a state is overwritten: files of earlier stages may be missing or damaged, and
        # the networks may not fit into memory.
        built = build_stage(stage, settings, loop, report=report)
        try:
            with settings.processes.first_in_turn():
                record = stage_record(stage, settings, loop)
                changed: list[str] = []
                if settings.processes.first:
                    changed = check_start(settings.out / stage, record, settings)
                built.held_out.load()
                source = training_source(settings, report)
                if settings.processes.first:
                    begin(settings.out / stage, record, settings, changed)
        except DeadlineError as stop:
            _log.info("%s has not begun: %s", stage, stop)
            return False
    reached = train_stage(
        settings.out / stage, built, source, loop, settings, reporter(report, stage)
    )
    if reached < loop.steps:
        _log.info("%s stopped at step %d of %d; --resume continues", stage, reached, loop.steps)
    return reached >= loop.steps


def _without_teacher(stage: StageName, settings: RunSettings) -> RunSettings:
    """Return the settings without the KL to the teacher if the run was started with a student, which has no teacher."""
    student = settings.student_settings
    if stage != "student" or not student.kl:
        return settings
    if settings.base is not None and settings.transformer.lq_prior:
        _log.info("%s is a student, so there is no teacher: the KL is left out", settings.base.base)
    elif lacks_teacher(settings):
        _log.info("the run was started with a student, so there is no teacher: the KL is left out")
    else:
        return settings
    return dataclasses.replace(settings, student_settings=dataclasses.replace(student, kl=0.0))


def loop_settings(stage: StageName, settings: RunSettings) -> LoopSettings:
    """Return the settings of a stage's training loop."""
    usual = student_rate(settings) if stage == "student" else LEARNING_RATES[stage]
    rates = {"steps": settings.steps[stage], "learning_rate": settings.learning_rate or usual}
    same = ("accumulate", "ema", "seed", "stop_at", "deadline", "tensorboard", "workers")
    often = {
        name: getattr(settings, name)
        for name in ("save_every", "evaluate_every", "warmup")
        if getattr(settings, name) is not None
    }
    return LoopSettings(**rates, **{name: getattr(settings, name) for name in same}, **often)


def build_stage(
    stage: StageName,
    settings: RunSettings,
    loop: LoopSettings,
    student: StudentSettings | None = None,
    report: OnProgress | None = None,
) -> ValidatedStage:
    """Return a stage on the networks of earlier stages. Its validation pictures are not loaded yet.

    Args:
        student: replaces the run's own settings of the student.
    """
    device, pixel_class = settings.device, settings.transformer.pixel_class
    pictures = partial(validation_pictures, settings, report)
    if stage == "tokenizer":
        tokenizer_settings = dataclasses.replace(
            settings.tokenizer_settings, pixel_class=pixel_class
        )
        return TokenizerStage(
            settings.tokenizer, loop, HeldOut(pictures, device),
            settings=tokenizer_settings, device=device, init=settings.init,
        )  # fmt: skip
    if stage == "teacher":
        return TeacherStage(
            trained_tokenizer(settings), settings.transformer, loop.seed, HeldOut(pictures, device),
            settings=settings.teacher_settings, device=device,
        )  # fmt: skip
    if stage == "encoder":
        wanted = dataclasses.replace(settings.encoder_settings, pixel_class=pixel_class)
        held_out = HeldOut(pictures, device, wanted.degradation)
        return EncoderStage(
            trained_tokenizer(settings), loop, held_out, settings=wanted, device=device
        )
    if stage in ("decoder", "student_decoder", "crisp_decoder"):
        return _decoder_stage(stage, settings, loop, pictures)
    # Other students than the run's own, as in the ablation, always start from a teacher.
    teacher = trained_teacher(settings) if student else _teacher(settings)
    student = student or settings.student_settings
    held_out = HeldOut(pictures, device, student.degradation, student.batch)
    built = StudentStage(
        trained_tokenizer(settings), adapted_tokenizer(settings, before="student"), teacher,
        loop.seed, held_out, settings=student, device=device,
        prompt=settings.prompt, processes=settings.processes,
    )  # fmt: skip
    if settings.base is not None and settings.init is not None:
        base = base_record(settings)["base"]
        start_from_adapter(built.student, settings.init, base["sha256"], base["pixel_class"])
    return built


def _teacher(settings: RunSettings) -> VARTransformer:
    """Return the teacher, or an untrained network in its place, whose weights those of an imported student replace."""
    if not lacks_teacher(settings):
        return trained_teacher(settings)
    if not settings.resume:
        raise SettingError(
            f"The run in {settings.out} was started with a student. Continue it with --resume. To train a new one, "
            "train a teacher first; if the student's state is damaged, import the files again, into another --out."
        )
    if settings.student_settings.lora_rank:
        raise SettingError(
            f"The run in {settings.out} was started with a student of which every weight is trained. Leave --rank out; "
            "to train adapters on it, give its files as --base and --vae in another --out."
        )
    return VARTransformer(settings.transformer)


def _decoder_stage(
    stage: StageName,
    settings: RunSettings,
    loop: LoopSettings,
    pictures: Callable[[], NDArray[np.uint8]],
) -> DecoderStage:
    """Return one of the stages that train the decoder."""
    wanted = settings.crisp_settings if stage == "crisp_decoder" else settings.decoder_settings
    wanted = dataclasses.replace(wanted, pixel_class=settings.transformer.pixel_class)
    held_out = HeldOut(pictures, settings.device, wanted.degradation)
    return DecoderStage(
        adapted_tokenizer(settings, before=stage), loop, held_out,
        student=None if stage == "decoder" else trained_student(settings),
        settings=wanted, device=settings.device,
    )  # fmt: skip


def train_stage(
    folder: Path,
    stage: Stage,
    source: PictureSource,
    loop: LoopSettings,
    settings: RunSettings,
    on_progress: Progress | None = None,
) -> int:
    """Train a stage in its folder, for a tokenizer after its skip path, and return the last step."""
    if settings.compile_options is not None:
        compile_networks(*stage.networks, **settings.compile_options)
    processes = settings.processes if isinstance(stage, StudentStage) else ALONE
    folder = processes.folder(folder)
    resumed = settings.resume and (folder / "state.pt").exists()
    start = stage.start if isinstance(stage, TokenizerStage) else None
    if start is not None and not resumed:
        first = start.loop(loop)
        how = {"device": settings.device, "resume": settings.resume, "on_progress": on_progress}
        if train(folder / "skip", start, source, first, **how) < first.steps:
            return 0
        start.join(source)
    return train(
        folder,
        stage,
        source,
        dataclasses.replace(loop, seed=loop.seed + processes.index),
        device=settings.device,
        resume=settings.resume,
        on_progress=on_progress,
        processes=processes,
    )
