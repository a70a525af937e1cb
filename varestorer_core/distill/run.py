"""A training run in one folder: pictures, four stages, export. Each stage finds its predecessors there.

A run on base files (`base.BaseFiles`) has neither a tokenizer nor a teacher stage: those come from the files.

RUN_DIR/config.json     shapes of the two networks; names and hashes of the base files
RUN_DIR/pictures.npy    cached procedural pictures
RUN_DIR/tokenizer/      state.pt, log.csv, sheets/*.png; likewise teacher/, encoder/ and student/
RUN_DIR/export/         the safetensors files
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..config import (
    TokenizerConfig,
    TransformerConfig,
    to_dict,
    tokenizer_config,
    transformer_config,
)
from ..errors import CheckpointError, SettingError
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import get_schedule
from .adapters import adapters_of, student_on_teacher
from .base import BaseFiles
from .data import folder_pictures, procedural_pictures
from .export import export_adapter, export_base, export_model, last_figures, trained_weights
from .initialise import student_from_teacher
from .logs import summary_writer
from .loop import LoopSettings
from .picture_folder import PictureFolder, PictureSource
from .processes import ALONE, Processes
from .train_encoder import EncoderSettings, train_encoder
from .train_student import StudentSettings, train_student
from .train_teacher import TINY_TRANSFORMER, TeacherSettings, train_teacher
from .train_tokenizer import TINY_TOKENIZER, TokenizerSettings, train_tokenizer

Stage = Literal["tokenizer", "teacher", "encoder", "student"]
STAGES: tuple[Stage, ...] = ("tokenizer", "teacher", "encoder", "student")
DEFAULT_STEPS: dict[Stage, int] = {
    "tokenizer": 5000,
    "teacher": 400,
    "encoder": 1600,
    "student": 500,
}
LEARNING_RATES: dict[Stage, float] = {
    "tokenizer": 8e-4,
    "teacher": 1e-3,
    "encoder": 5e-4,
    "student": 1e-3,
}
FULL_SIZE_STEPS = 10000
"""Steps of a student on base files."""
FULL_SIZE_LEARNING_RATE = 1e-4
"""Of adapters on base files."""

Report = Callable[[str, int, int, float | None], None]
"""(what, done, total, loss if there is one)."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that a run depends on besides its stages' own settings."""

    out: Path
    data: Path | None = None
    """Folder of training pictures; None generates them."""
    validation: Path | None = None
    """Folder of pictures to measure on; None generates other ones than for training."""
    pictures: int = 5000
    """How many to generate."""
    picture_size: int = 192
    """Side of the squares in memory; a ninth more than a tile where that is larger."""
    workers: int = 1
    """Processes that generate."""
    validation_pictures: int = 8
    """How many pictures to measure on at most."""
    steps: dict[Stage, int] = field(default_factory=lambda: dict(DEFAULT_STEPS))
    learning_rate: float | None = None
    accumulate: int = 1
    ema: float = 0.0
    tensorboard: bool = False
    stop_at: int | None = None
    seed: int = 0
    resume: bool = False
    device: str = "cpu"
    base: BaseFiles | None = None
    """Files in the place of the first two stages."""
    prompt: Tensor | None = None
    """(1, T, text_channels) text features for the student; None takes the learned embedding of no prompt."""
    processes: Processes = ALONE
    """That train the student together."""
    tokenizer: TokenizerConfig = TINY_TOKENIZER
    transformer: TransformerConfig = TINY_TRANSFORMER
    tokenizer_settings: TokenizerSettings = field(default_factory=TokenizerSettings)
    teacher_settings: TeacherSettings = field(default_factory=TeacherSettings)
    encoder_settings: EncoderSettings = field(default_factory=EncoderSettings)
    student_settings: StudentSettings = field(default_factory=StudentSettings)

    def __post_init__(self) -> None:
        if self.tensorboard:
            summary_writer()  # whether there is one; not only after the pictures have been drawn

    @property
    def tile(self) -> int:
        """Side of a tile in pixels."""
        schedule = get_schedule(1.0, self.transformer.pixel_class)
        return schedule.pixel_size(self.tokenizer.patch_size)[0]


def load_config(settings: RunSettings, path: Path) -> RunSettings:
    """Return the settings with the networks' shapes of a config.json."""
    try:
        values = json.loads(path.read_text())
        return dataclasses.replace(
            settings,
            tokenizer=tokenizer_config(values["tokenizer"]),
            transformer=transformer_config(values["transformer"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a training configuration: {error}. It must be JSON with the keys 'tokenizer' and "
            "'transformer', as a run writes it."
        ) from error


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
    )
    common = {
        "resume": settings.resume,
        "device": settings.device,
        "on_progress": _progress(report, stage),
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


def student_rate(settings: RunSettings) -> float:
    """Return the student's peak learning rate."""
    usual = LEARNING_RATES["student"] if settings.base is None else FULL_SIZE_LEARNING_RATE
    return settings.learning_rate or usual


def training_pictures(
    settings: RunSettings, stage: Stage, report: Report | None = None
) -> tuple[PictureSource, NDArray[np.uint8]]:
    """Return what a stage trains on, and the squares of tile size that it measures on."""
    return _training(settings, stage, report), _validation(settings)


def on_files(settings: RunSettings) -> bool:
    """Whether the run was started on a base and a tokenizer from files."""
    return bool(_record(settings))


def run_export(settings: RunSettings, note: str, name: str = "tiny") -> list[Path]:
    """Write what the run trained as safetensors and return the paths.

    That is the student and the tokenizer; of a student with adapters the adapter and, unless it is a file already,
    the base that it belongs to. A tokenizer from a file is only written if its encoder was fine-tuned.
    """
    record = _record(settings)
    if record and settings.base is None:
        settings = load_config(settings, settings.out / "config.json")
    else:
        settings = with_own_config(settings)
    folder = settings.out / "export"
    weights = trained_weights(settings.out / "student" / "state.pt", "student")
    metrics = last_figures(settings.out / "student" / "log.csv")
    rank = _adapter_rank(weights)
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
    if not record or (settings.out / "encoder" / "state.pt").exists():
        tokenizer = adapted_tokenizer(settings)
        written.append(export_model(tokenizer, folder / f"{name}_tokenizer.safetensors", note))
    return written


def trained_tokenizer(settings: RunSettings) -> VisualTokenizer:
    """Return the tokenizer of the run."""
    if settings.base is not None:
        return settings.base.load_tokenizer()
    tokenizer = VisualTokenizer(settings.tokenizer)
    tokenizer.load_state_dict(trained_weights(settings.out / "tokenizer" / "state.pt", "tokenizer"))
    return tokenizer.eval()


def adapted_tokenizer(settings: RunSettings) -> VisualTokenizer:
    """Return the tokenizer with the encoder for degraded pictures, where that stage was run."""
    tokenizer = trained_tokenizer(settings)
    state = settings.out / "encoder" / "state.pt"
    if state.exists():
        tokenizer.encoder.load_state_dict(trained_weights(state, "encoder"))
    return tokenizer


def trained_teacher(settings: RunSettings) -> VARTransformer:
    """Return the teacher of the run."""
    if settings.base is not None:
        return settings.base.load_teacher(settings.transformer, settings.device)
    teacher = VARTransformer(settings.transformer)
    teacher.load_state_dict(trained_weights(settings.out / "teacher" / "state.pt", "teacher"))
    return teacher.eval()


def trained_student(settings: RunSettings, stage: Path | None = None) -> VARTransformer:
    """Return the student of the run, or one that was trained in another folder."""
    folder = stage or settings.out / "student"
    weights = trained_weights(folder / "state.pt", "student")
    rank = _adapter_rank(weights)
    if rank == 0:
        student = student_from_teacher(VARTransformer(settings.transformer))
        student.load_state_dict(weights)
        return student.eval()
    student = student_on_teacher(trained_teacher(settings), rank)
    factors = {name: value for name, value in weights.items() if ".lora_" in name}
    adapters_of(student).load_state_dict(factors)
    return student.eval()


def with_own_config(settings: RunSettings) -> RunSettings:
    """Return the settings with the run's own shapes; a new run notes those it is given.

    Raises:
        CheckpointError: if the run was started on other files.
    """
    path = settings.out / "config.json"
    if path.exists():
        _check_base(settings)
        return load_config(settings, path)
    record = {}
    files = settings.base
    if files is not None:
        tokenizer, transformer = files.shapes()
        settings = dataclasses.replace(settings, tokenizer=tokenizer, transformer=transformer)
        record = files.record()
    if settings.processes.first:
        settings.out.mkdir(parents=True, exist_ok=True)
        shapes = {
            "tokenizer": to_dict(settings.tokenizer),
            "transformer": to_dict(settings.transformer),
        }
        path.write_text(json.dumps({**shapes, **record}, indent=2))
    return settings


def _check_base(settings: RunSettings) -> None:
    """Refuse other base files than the run was started with, none, or some where it has none."""
    record = _record(settings)
    if settings.base is None and record:
        raise CheckpointError(
            f"The run in {settings.out} was started on files. Give them again: --base and --vae."
        )
    if settings.base is not None and not record:
        raise CheckpointError(
            f"The run in {settings.out} trained its own teacher. Leave --base and --vae out, or give "
            "another --out."
        )
    if settings.base is not None:
        settings.base.check(record, settings.out)
        pixel_class = load_config(settings, settings.out / "config.json").transformer.pixel_class
        if settings.base.pixel_class not in (None, pixel_class):
            raise CheckpointError(
                f"The run in {settings.out} was started on tiles of pixel class {pixel_class}, got "
                f"{settings.base.pixel_class}. Leave --pixel-class out, or give another --out."
            )


def _record(settings: RunSettings) -> dict[str, Any]:
    """Return what the run noted about its base files; empty if it has none."""
    path = settings.out / "config.json"
    if not path.exists():
        return {}
    load_config(settings, path)  # says what is wrong with the file, if anything
    values = json.loads(path.read_text())
    return {role: values[role] for role in ("base", "vae") if role in values}


def _adapter_rank(weights: dict[str, Tensor]) -> int:
    ranks = [value.shape[0] for name, value in weights.items() if name.endswith("lora_down.weight")]
    return ranks[0] if ranks else 0


def _training(settings: RunSettings, stage: Stage, report: Report | None) -> PictureSource:
    """Return the training squares, or for a student of full size the folder that they are cut from."""
    if settings.base is not None and settings.data is not None and stage == "student":
        return PictureFolder(settings.data, settings.tile)
    size = settings.picture_size
    if settings.tile > size:
        size = settings.tile * 9 // 8
    if settings.data is not None:
        return folder_pictures(settings.data, size=size, seed=settings.seed)
    return procedural_pictures(
        settings.out / "pictures.npy",
        settings.pictures,
        size=size,
        seed=settings.seed,
        workers=settings.workers,
        on_progress=_progress(report, "pictures"),
    )


def _validation(settings: RunSettings) -> NDArray[np.uint8]:
    """Return the squares of tile size that the stages measure on."""
    count = settings.validation_pictures
    if settings.validation is not None:
        held_out = folder_pictures(settings.validation, size=settings.tile, per_picture=2)
    else:
        held_out = procedural_pictures(
            settings.out / "validation.npy", count, size=settings.tile, seed=settings.seed + 1
        )
    return np.ascontiguousarray(held_out[:count])


def _progress(report: Report | None, what: str) -> Callable[..., None] | None:
    if report is None:
        return None
    return lambda done, total, loss=None: report(what, done, total, loss)
