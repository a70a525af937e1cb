"""Settings of a training run: its pictures, its shapes, its stages and their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...compiling import check_compiling
from ...config import TokenizerConfig, TransformerConfig
from ...schedule import get_schedule
from ..base import BaseFiles
from ..logs import summary_writer
from ..processes import ALONE, Processes
from ..stage_names import StageName
from ..train_decoder import CRISP, DecoderSettings
from ..train_encoder import EncoderSettings
from ..train_student import StudentSettings
from ..train_teacher import TINY_TRANSFORMER, TeacherSettings
from ..train_tokenizer import TINY_TOKENIZER, TokenizerSettings

OPTIONAL: tuple[StageName, ...] = ("decoder", "student_decoder", "crisp_decoder")
"""Stages that are not part of "all": they fine-tune the decoder further."""
DEFAULT_STEPS: dict[StageName, int] = {
    "tokenizer": 5000,
    "teacher": 500,
    "encoder": 8500,
    "decoder": 2000,
    "student": 400,
    "student_decoder": 1000,
    "crisp_decoder": 1000,
}
LEARNING_RATES: dict[StageName, float] = {
    "tokenizer": 8e-4,
    "teacher": 1e-3,
    "encoder": 8e-4,
    "decoder": 4e-4,
    "student": 5e-4,
    "student_decoder": 3e-4,
    "crisp_decoder": 2e-4,
}
FULL_SIZE_STEPS = 10000
"""Default steps of a student on base files."""
FULL_SIZE_LEARNING_RATE = 1e-4
"""Default learning rate of adapters on base files."""

OnProgress = Callable[[str, int, int, float | None], None]
"""Called with (description, done, total, loss if there is one)."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, including those of its stages."""

    out: Path
    data: Path | None = None
    """Folder of training pictures; None generates them."""
    validation: Path | None = None
    """Folder of validation pictures; None holds some of `data` out, or generates other ones than for training."""
    pictures: int = 5000
    """Number of pictures to generate."""
    squares: int | None = None
    """Crop each picture of `data` to up to this many squares once, and add the generated ones; None reads pictures when
    they are drawn and adds none."""
    picture_size: int = 192
    """Side of the squares in memory; at least a ninth more than a tile."""
    workers: int = 0
    """Processes that generate pictures, and that draw, decode and degrade them; 0 uses the training process."""
    validation_pictures: int = 80
    """Maximum number of validation pictures; with a tenth of the default, the metrics are misleading."""
    steps: dict[StageName, int] = field(default_factory=lambda: dict(DEFAULT_STEPS))
    learning_rate: float | None = None
    warmup: int | None = None
    """Steps over which the learning rate rises; None means the loop's default."""
    accumulate: int = 1
    ema: float = 0.0
    tensorboard: bool = False
    stop_at: int | None = None
    deadline: float | None = None
    """Value of `time.monotonic()` at which training stops and saves."""
    save_every: int | None = None
    evaluate_every: int | None = None
    """Steps between two of them; None means the loop's default."""
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    """Train from scratch although there is a state; without this and `resume`, a state is an error."""
    allow_changes: bool = False
    """Continue a stage with settings that differ from its own; export a state although a later step was reached."""
    device: str = "cpu"
    init: Path | None = None
    """Tokenizer file for the initialisation of the tokenizer stage; None trains from scratch."""
    compile_options: dict[str, Any] | None = None
    """Options of `torch.compile` for the networks of every stage, such as {} for its defaults; None does not
    compile."""
    base: BaseFiles | None = None
    """Files that replace the first two stages."""
    prompt: Tensor | None = None
    """(1, T, text_channels) text features for the student; None means the learned embedding of no prompt."""
    processes: Processes = ALONE
    """Processes that train the student together."""
    given_config: Path | None = None
    """File of the shapes below; a run with other shapes is then rejected."""
    tokenizer: TokenizerConfig = TINY_TOKENIZER
    transformer: TransformerConfig = TINY_TRANSFORMER
    tokenizer_settings: TokenizerSettings = field(default_factory=TokenizerSettings)
    teacher_settings: TeacherSettings = field(default_factory=TeacherSettings)
    encoder_settings: EncoderSettings = field(default_factory=EncoderSettings)
    decoder_settings: DecoderSettings = field(default_factory=DecoderSettings)
    crisp_settings: DecoderSettings = CRISP
    student_settings: StudentSettings = field(default_factory=StudentSettings)

    def __post_init__(self) -> None:
        if self.tensorboard:
            summary_writer()  # raises an error before pictures are drawn
        if self.compile_options is not None:
            check_compiling(torch.device(self.device))

    @property
    def tile(self) -> int:
        """Side of a tile in pixels."""
        schedule = get_schedule(1.0, self.transformer.pixel_class)
        return schedule.pixel_size(self.tokenizer.patch_size)[0]


def student_rate(settings: RunSettings) -> float:
    """Return the student's peak learning rate."""
    usual = LEARNING_RATES["student"] if settings.base is None else FULL_SIZE_LEARNING_RATE
    return settings.learning_rate or usual


def reporter(report: OnProgress | None, what: str) -> Callable[..., None] | None:
    """Return a function of (done, total, loss) that reports with a stage's name."""
    if report is None:
        return None
    return lambda done, total, loss=None: report(what, done, total, loss)
