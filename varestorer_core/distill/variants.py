"""The paper's ablations, as changes to the settings of the student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .train_student import StudentSettings


def no_distillation(settings: StudentSettings) -> StudentSettings:
    """Train only on the clean picture's tokens: cross entropy of its bits, no teacher, no picture losses."""
    return replace(
        settings, kl=0.0, mse=0.0, perceptual_weight=0.0, adversarial=0.0, cross_entropy=1.0
    )


def no_cross_scale(settings: StudentSettings) -> StudentSettings:
    """Mask the student like the teacher: no scale attends to a finer one or the appended LQ code map."""
    return replace(settings, causal=True)


def no_kl(settings: StudentSettings) -> StudentSettings:
    """Omit the teacher and keep all other losses."""
    return replace(settings, kl=0.0)


VARIANTS: dict[str, Callable[[StudentSettings], StudentSettings]] = {
    "full": lambda settings: settings,
    "no distillation": no_distillation,
    "no cross-scale": no_cross_scale,
    "no KL": no_kl,
}
"""Variants by their names in tables."""
