"""A training run in one folder: pictures, four stages, export. Each stage finds its predecessors there.

A run on base files (`base.BaseFiles`) has neither a tokenizer nor a teacher stage: those come from the files.

RUN_DIR/config.json     shapes of the two networks; names and hashes of the base files
RUN_DIR/pictures.npy    cached procedural pictures
RUN_DIR/tokenizer/      state.pt, log.csv, sheets/*.png; likewise teacher/, encoder/ and student/
RUN_DIR/export/         the safetensors files
"""

from .config import load_config, on_files, with_own_config
from .networks import adapted_tokenizer, trained_student, trained_teacher, trained_tokenizer
from .pictures import training_pictures
from .settings import (
    DEFAULT_STEPS,
    FULL_SIZE_STEPS,
    STAGES,
    Report,
    RunSettings,
    student_rate,
)
from .stages import run_export, run_stage

__all__ = [
    "DEFAULT_STEPS",
    "FULL_SIZE_STEPS",
    "STAGES",
    "Report",
    "RunSettings",
    "adapted_tokenizer",
    "load_config",
    "on_files",
    "run_export",
    "run_stage",
    "student_rate",
    "trained_student",
    "trained_teacher",
    "trained_tokenizer",
    "training_pictures",
    "with_own_config",
]
