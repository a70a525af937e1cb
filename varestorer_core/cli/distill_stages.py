"""The stages of `varestorer distill`, and the options that each of them uses."""

from __future__ import annotations

import argparse
from typing import Any

from ..distill.stage_names import STAGES as TRAINING
from . import UsageError

STAGES = (*TRAINING, "import", "export", "all", "ablation")

_ALL_BUT_EXPORT = (*TRAINING, "ablation")
_ON_DEGRADED = ("encoder", "decoder", "student", "student_decoder", "crisp_decoder", "ablation")
_STUDENT = ("student", "ablation")
_USED_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            *("data", "validation", "pictures", "squares", "validation_pictures", "workers"),
            *(
                "steps",
                "minutes",
                "save_every",
                "evaluate_every",
                "batch",
                "learning_rate",
                "warmup",
            ),
            *("amp", "accumulate", "ema", "tensorboard", "compile", "resume"),
        ),
        _ALL_BUT_EXPORT,
    ),
    **dict.fromkeys(("stop_at", "overwrite", "seed"), TRAINING),
    "allow_changes": (*TRAINING, "export"),
    "note": ("export",),
    "degradation": _ON_DEGRADED,
    "encoder_rank": ("encoder",),
    "edges": ("encoder", "decoder", "student_decoder", "crisp_decoder"),
    "adversarial": (*_STUDENT, "crisp_decoder"),
    **dict.fromkeys(
        (
            *("lora_rank", "kl", "mse", "cross_entropy", "perceptual", "perceptual_weight"),
            *("train_decoder", "checkpointing", "prompt", "text_encoder"),
            # Only to be refused by the ablation with a sentence of its own.
            *("no_distill", "causal", "no_kl"),
        ),
        _STUDENT,
    ),
    **dict.fromkeys(("commitment", "entropy"), ("tokenizer",)),
    **dict.fromkeys(("seeds", "photographs", "preset", "scale", "size"), ("ablation",)),
    "model": ("import",),
    "config": (*_ALL_BUT_EXPORT, "export"),
}
"""Stages that use an option, besides "all", which trains and exports.

Options that are not listed suit every stage or are checked elsewhere.
"""
_ALONE = (("ablation",), ("import",))
"""Stages that are not part of "all"."""
_NAMES = {"lora_rank": "--rank", "causal": "--no-cross-scale", "amp": "--no-amp"}
"""Options whose names differ from those of their values."""


def usual_values(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the defaults of the options that only some stages use."""
    return {name: parser.get_default(name) for name in _USED_BY}


def stages_of(name: str) -> tuple[str, ...]:
    """Return the stages that use an option, by the name of its value."""
    users = _USED_BY.get(name, STAGES)
    return users if users in _ALONE or "all" in users else (*users, "all")


def check_options(args: argparse.Namespace) -> None:
    """Raise an error for options that the stage ignores, before any work.

    Raises:
        UsageError: naming the options and the stages that use them.
    """
    for name in _USED_BY:
        stages = stages_of(name)
        if args.stage not in stages and getattr(args, name) != args.usual[name]:
            raise UsageError(
                f"{_option(name)} has no effect in the stage {args.stage}, only in {_listed(stages)}. Leave it out."
            )
    if args.squares is not None and args.data is None:
        raise UsageError("--squares has an effect only together with --data. Leave it out.")
    if args.base is None and args.base_dtype != "bf16":
        raise UsageError("--base-dtype has an effect only together with --base and --vae.")


def _listed(stages: tuple[str, ...]) -> str:
    return " and ".join(part for part in (", ".join(stages[:-1]), stages[-1]) if part)


def _option(name: str) -> str:
    return _NAMES.get(name, f"--{name.replace('_', '-')}")
