"""`varestorer distill STAGE --help`: the options of the stage, with their defaults in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .distill_stages import STAGES, stages_of

_ON_FILES = ("encoder", "student", "all")
_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "init": ("tokenizer", "student", "all"),
    **dict.fromkeys(("base", "pixel_class", "base_dtype"), _ON_FILES),
    "vae": (*_ON_FILES, "import"),
    "accelerate": ("student", "all"),
    **dict.fromkeys(("task", "recommend"), ("export", "all")),
}
"""Stages that use an option which is checked by another module."""


class StageHelp(argparse.Action):
    """Prints the help of the stage before it, or of all stages."""

    def __init__(self, option_strings: Any, dest: str, **more: Any):
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **more)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any
    ) -> None:
        """Print the help and end the command."""
        stage = getattr(namespace, "stage", None)
        if stage in STAGES:
            _fit(parser, stage)
        parser.print_help()
        parser.exit()


def _fit(parser: argparse.ArgumentParser, stage: str) -> None:
    """Leave the options of a stage, and add its defaults to their texts."""
    defaults = stage_defaults(stage)
    parser.usage = f"%(prog)s {stage} --out DIR [OPTION ...]"
    for action in parser._actions:
        users = _ELSEWHERE.get(action.dest) or stages_of(action.dest)
        if stage not in users:
            action.help = argparse.SUPPRESS
        elif action.dest in defaults:
            text = (action.help or "").rstrip()
            action.help = f"{text} (default: {defaults[action.dest]})".lstrip()


def stage_defaults(stage: str) -> dict[str, str]:
    """Return the defaults of the options whose texts do not state them, in words."""
    from ..distill.run import DEFAULT_STEPS, FULL_SIZE_STEPS, RunSettings
    from ..distill.run.settings import FULL_SIZE_LEARNING_RATE, LEARNING_RATES
    from ..distill.train_tokenizer import TokenizerSettings
    from .distill_student import FULL_SIZE_BATCH

    found = {"seed": "0"}
    if stage in ("tokenizer", "all"):
        found["commitment"] = f"{TokenizerSettings().commitment:g}"
    if stage == "all":
        return found | {"steps": str(DEFAULT_STEPS["tokenizer"])}
    trained = "student" if stage == "ablation" else stage
    if trained not in DEFAULT_STEPS:
        return found
    settings = RunSettings(out=Path())
    name = {"student_decoder": "decoder", "crisp_decoder": "crisp"}.get(trained, trained)
    found |= {
        "steps": str(DEFAULT_STEPS[trained]),
        "learning_rate": f"{LEARNING_RATES[trained]:g}",
        "batch": str(getattr(settings, f"{name}_settings").batch),
    }
    if stage == "student":
        found["steps"] += f"; with --base: {FULL_SIZE_STEPS}"
        found["learning_rate"] += f"; adapters with --base: {FULL_SIZE_LEARNING_RATE:g}"
        found["batch"] += f"; with --base: {FULL_SIZE_BATCH}"
    return found
