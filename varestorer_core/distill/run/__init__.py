"""A training run in one folder: pictures, stages, export. Each stage finds the results of earlier ones there.

A run on base files (`base.BaseFiles`) has no tokenizer and teacher stages: both come from files.

RUN_DIR/config.json     shapes of the two networks; names and hashes of the base files, or of the imported ones
RUN_DIR/pictures.npy    cached procedural pictures
RUN_DIR/tokenizer/      state.pt, log.csv, sheets/*.png; likewise teacher/, encoder/ and student/
RUN_DIR/export/         the safetensors files
"""

from ..stage_names import STAGES, StageName
from .config import load_config, on_files, with_own_config
from .exporting import run_export
from .importing import run_import
from .networks import adapted_tokenizer, trained_student, trained_teacher, trained_tokenizer
from .pictures import training_source, validation_pictures
from .settings import (
    DEFAULT_STEPS,
    FULL_SIZE_STEPS,
    OPTIONAL,
    OnProgress,
    RunSettings,
    student_rate,
)
from .stages import build_stage, loop_settings, run_stage, train_stage

__all__ = [
    "DEFAULT_STEPS",
    "FULL_SIZE_STEPS",
    "OPTIONAL",
    "STAGES",
    "OnProgress",
    "RunSettings",
    "StageName",
    "adapted_tokenizer",
    "build_stage",
    "load_config",
    "loop_settings",
    "on_files",
    "run_export",
    "run_import",
    "run_stage",
    "student_rate",
    "train_stage",
    "trained_student",
    "trained_teacher",
    "trained_tokenizer",
    "training_source",
    "validation_pictures",
    "with_own_config",
]
