"""Names of the stages of a run, which the command reads without loading PyTorch."""

from __future__ import annotations

from typing import Literal, get_args

StageName = Literal[
    "tokenizer",
    "teacher",
    "encoder",
    "decoder",
    "student",
    "student_decoder",
    "crisp_decoder",
]
STAGES: tuple[StageName, ...] = get_args(StageName)
