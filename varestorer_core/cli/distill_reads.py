"""Which options each stage of `varestorer distill` reads: its help shows those, and the others are refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

_TRAINING = {
    *("data", "validation", "pictures", "squares", "validation_pictures", "workers", "config"),
    *("steps", "stop_at", "minutes", "save_every", "evaluate_every", "batch", "learning_rate"),
    *("warmup", "amp", "accumulate", "ema", "tensorboard", "seed", "resume", "overwrite"),
}
_FILES = {"base", "vae", "pixel_class", "base_dtype"}
_STUDENT = {
    *("degradation", "lora_rank", "kl", "mse", "perceptual", "perceptual_weight", "cross_entropy"),
    *("adversarial", "no_distill", "causal", "no_kl", "checkpointing", "accelerate", "prompt"),
    "text_encoder",
}
_ALWAYS = frozenset(("out", "device", "threads", "allow_changes"))

READS: dict[str, frozenset[str]] = {
    "tokenizer": _ALWAYS | _TRAINING | {"commitment", "entropy"},
    "teacher": _ALWAYS | _TRAINING,
    "encoder": _ALWAYS | _TRAINING | _FILES | {"degradation", "encoder_rank"},
    "decoder": _ALWAYS | _TRAINING | {"degradation"},
    "student": _ALWAYS | _TRAINING | _FILES | _STUDENT,
    "student_decoder": _ALWAYS | _TRAINING | {"degradation"},
    "crisp_decoder": _ALWAYS | _TRAINING | {"degradation", "adversarial"},
    "export": _ALWAYS | _FILES | {"note"},
}
"""By stage, the names of its options as attributes; "all" and "ablation" read those of the stages they run."""
READS["all"] = frozenset().union(*READS.values())
READS["ablation"] = (READS["all"] | {"seeds", "photographs"}) - {"overwrite", "stop_at", "note"}

STEPS_AND_RATES = {
    "tokenizer": (5000, 8e-4),
    "teacher": (500, 1e-3),
    "encoder": (8500, 8e-4),
    "decoder": (2000, 4e-4),
    "student": (400, 5e-4),
    "student_decoder": (1000, 3e-4),
    "crisp_decoder": (1000, 2e-4),
}
"""Default steps and peak learning rates, as in `distill.run.settings`, which imports torch; help must not."""

TITLES = {
    "tokenizer": "train the visual tokenizer",
    "teacher": "train the teacher, which predicts the next scale's bits",
    "encoder": "fine-tune the tokenizer's encoder on degraded pictures",
    "decoder": "fine-tune the decoder on the bits of that encoder",
    "student": "distil the one-step student from the teacher",
    "student_decoder": "fine-tune the decoder on the student's bits",
    "crisp_decoder": "fine-tune the decoder further, with a discriminator",
    "export": "write what was trained as safetensors",
    "all": "tokenizer, teacher, encoder, student and export in turn",
    "ablation": "train the student's variants alike and compare them",
}


class StageOptions:
    """Adds those options to a parser that a stage reads; the others get their defaults and are no options."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        stage: str,
        group: Callable[[], Any] | None = None,
    ):
        """Add to a parser, or to a group of it that is made when it gets its first option."""
        self.stage = stage
        self._parser, self._group = parser, group
        self._target: Any = parser if group is None else None

    def add_argument(self, *flags: str, **settings: Any) -> None:
        """See `argparse.ArgumentParser.add_argument`."""
        name = settings.get("dest") or flags[0].lstrip("-").replace("-", "_")
        if name not in READS[self.stage]:
            usual = False if settings.get("action") == "store_true" else None
            self._parser.set_defaults(**{name: settings.get("default", usual)})
            return
        if self._target is None:
            assert self._group is not None
            self._target = self._group()
        self._target.add_argument(*flags, **settings)

    def add_argument_group(self, title: str) -> StageOptions:
        """Return a group of options under a title."""
        return StageOptions(
            self._parser, self.stage, partial(self._parser.add_argument_group, title)
        )

    def add_mutually_exclusive_group(self) -> StageOptions:
        """Return a group of which one option may be given."""
        return StageOptions(self._parser, self.stage, self._parser.add_mutually_exclusive_group)

    def defaults(self) -> tuple[str, str]:
        """Return what to say about the default steps and peak learning rate."""
        if self.stage not in STEPS_AND_RATES:
            return "each stage's own", "each stage's own"
        steps, rate = STEPS_AND_RATES[self.stage]
        if self.stage == "student":
            return f"{steps}; with --base: 10000", f"{rate:g}; with --base: 0.0001"
        return str(steps), f"{rate:g}"
