"""A training run in one folder: pictures, four stages, export. Each stage finds its predecessors there.

RUN_DIR/config.json     shapes of the two networks
RUN_DIR/pictures.npy    cached procedural pictures
RUN_DIR/tokenizer/      state.pt, log.csv, sheets/*.png; likewise teacher/, encoder/ and student/
RUN_DIR/export/         the two safetensors files
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..config import (
    TokenizerConfig,
    TransformerConfig,
    to_dict,
    tokenizer_config,
    transformer_config,
)
from ..errors import CheckpointError
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import get_schedule
from .data import folder_pictures, procedural_pictures
from .export import export_adapter, export_model, trained_weights
from .initialise import student_from_teacher
from .loop import LoopSettings
from .train_encoder import EncoderSettings, train_encoder
from .train_student import StudentSettings, train_student
from .train_teacher import TINY_TRANSFORMER, TeacherSettings, train_teacher
from .train_tokenizer import TINY_TOKENIZER, TokenizerSettings, train_tokenizer

Stage = Literal["tokenizer", "teacher", "encoder", "student"]
STAGES: tuple[Stage, ...] = ("tokenizer", "teacher", "encoder", "student")
DEFAULT_STEPS: dict[Stage, int] = {
    "tokenizer": 4700,
    "teacher": 400,
    "encoder": 1600,
    "student": 500,
}
LEARNING_RATES: dict[Stage, float] = {
    "tokenizer": 1e-3,
    "teacher": 1e-3,
    "encoder": 5e-4,
    "student": 1e-3,
}
_VALIDATION_PICTURES = 8

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
    workers: int = 1
    """Processes that generate."""
    steps: dict[Stage, int] = field(default_factory=lambda: dict(DEFAULT_STEPS))
    learning_rate: float | None = None
    accumulate: int = 1
    ema: float = 0.0
    tensorboard: bool = False
    stop_at: int | None = None
    seed: int = 0
    resume: bool = False
    device: str = "cpu"
    tokenizer: TokenizerConfig = TINY_TOKENIZER
    transformer: TransformerConfig = TINY_TRANSFORMER
    tokenizer_settings: TokenizerSettings = field(default_factory=TokenizerSettings)
    teacher_settings: TeacherSettings = field(default_factory=TeacherSettings)
    encoder_settings: EncoderSettings = field(default_factory=EncoderSettings)
    student_settings: StudentSettings = field(default_factory=StudentSettings)

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
    settings = _with_own_config(settings)
    training, validation = _pictures(settings, report)
    loop = LoopSettings(
        steps=settings.steps[stage],
        learning_rate=settings.learning_rate or LEARNING_RATES[stage],
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
    if stage == "tokenizer":
        train_tokenizer(
            folder, training, validation, loop,
            config=settings.tokenizer, settings=settings.tokenizer_settings, **common,
        )  # fmt: skip
    elif stage == "teacher":
        train_teacher(
            folder, trained_tokenizer(settings), training, validation, loop,
            config=settings.transformer, settings=settings.teacher_settings, **common,
        )  # fmt: skip
    elif stage == "encoder":
        train_encoder(
            folder, trained_tokenizer(settings), training, validation, loop,
            settings=settings.encoder_settings, **common,
        )  # fmt: skip
    else:
        train_student(
            folder, trained_tokenizer(settings), adapted_tokenizer(settings), trained_teacher(settings),
            training, validation, loop, settings=settings.student_settings, **common,
        )  # fmt: skip


def run_export(settings: RunSettings, note: str, name: str = "tiny") -> list[Path]:
    """Write the run's tokenizer and student as safetensors and return the paths."""
    settings = _with_own_config(settings)
    folder = settings.out / "export"
    student = trained_student(settings)
    if student.config.lora_rank:
        written = export_adapter(student, folder / f"{name}_adapter.safetensors", note)
    else:
        written = export_model(student, folder / f"{name}_transformer.safetensors", note)
    tokenizer = adapted_tokenizer(settings)
    return [written, export_model(tokenizer, folder / f"{name}_tokenizer.safetensors", note)]


def trained_tokenizer(settings: RunSettings) -> VisualTokenizer:
    """Return the tokenizer of the run."""
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
    teacher = VARTransformer(settings.transformer)
    teacher.load_state_dict(trained_weights(settings.out / "teacher" / "state.pt", "teacher"))
    return teacher.eval()


def trained_student(settings: RunSettings) -> VARTransformer:
    """Return the student of the run."""
    weights = trained_weights(settings.out / "student" / "state.pt", "student")
    ranks = [value.shape[0] for name, value in weights.items() if name.endswith("lora_down.weight")]
    student = student_from_teacher(VARTransformer(settings.transformer), ranks[0] if ranks else 0)
    student.load_state_dict(weights)
    return student.eval()


def _with_own_config(settings: RunSettings) -> RunSettings:
    """Return the settings with the run's own shapes; a new run notes those it is given."""
    path = settings.out / "config.json"
    if path.exists():
        return load_config(settings, path)
    settings.out.mkdir(parents=True, exist_ok=True)
    shapes = {
        "tokenizer": to_dict(settings.tokenizer),
        "transformer": to_dict(settings.transformer),
    }
    path.write_text(json.dumps(shapes, indent=2))
    return settings


def _pictures(
    settings: RunSettings, report: Report | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the training squares and the validation squares, the latter of tile size."""
    if settings.data is not None:
        training = folder_pictures(settings.data, size=settings.picture_size, seed=settings.seed)
    else:
        training = procedural_pictures(
            settings.out / "pictures.npy",
            settings.pictures,
            size=settings.picture_size,
            seed=settings.seed,
            workers=settings.workers,
            on_progress=_progress(report, "pictures"),
        )
    if settings.validation is not None:
        held_out = folder_pictures(settings.validation, size=settings.tile, per_picture=2)
    else:
        held_out = procedural_pictures(
            settings.out / "validation.npy",
            _VALIDATION_PICTURES,
            size=settings.tile,
            seed=settings.seed + 1,
        )
    return training, np.ascontiguousarray(held_out[:_VALIDATION_PICTURES])


def _progress(report: Report | None, what: str) -> Callable[..., None] | None:
    if report is None:
        return None
    return lambda done, total, loss=None: report(what, done, total, loss)
