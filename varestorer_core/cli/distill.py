"""`varestorer distill`: train a tokenizer, a teacher and a one-step student, and export them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .degrade import PRESETS
from .options import between, integer

if TYPE_CHECKING:
    from ..distill.run import Report, RunSettings

_STAGES = ("tokenizer", "teacher", "encoder", "student", "export", "all")
_EPILOG = """\
Stages build on each other and share one folder: tokenizer, teacher, encoder (the tokenizer's,
fine-tuned on degraded pictures; may be left out), student, export. "all" does the five in turn;
--steps then counts the tokenizer's, the other stages in proportion. Sample sheets appear in
OUT/<stage>/sheets while a stage runs: look at them.
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "distill",
        help="train a small model of your own",
        description="Train a tokenizer, a teacher and a one-step student from procedural or your own pictures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", choices=_STAGES, help="what to do")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="training pictures (default: procedural ones)"
    )
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="pictures to measure on (default: procedural)",
    )
    parser.add_argument("--pictures", type=int, default=5000, help="procedural pictures to make")
    parser.add_argument("--workers", type=int, default=1, help="processes that make them")
    parser.add_argument("--config", type=Path, metavar="FILE", help="shapes (a run's config.json)")
    parser.add_argument("--steps", type=int, help="optimiser steps in all")
    parser.add_argument(
        "--stop-at", type=int, metavar="STEP", help="pause here; --resume continues"
    )
    parser.add_argument("--batch", type=int, help="pictures a step")
    parser.add_argument("--learning-rate", type=float, help="peak learning rate")
    parser.add_argument(
        "--accumulate",
        type=integer(1, None),
        default=1,
        metavar="N",
        help="batches that a step adds up: a larger batch in the same memory",
    )
    parser.add_argument(
        "--ema",
        type=between(0, 0.99999),
        default=0.0,
        metavar="DECAY",
        help="average the weights over the steps, such as 0.999, and measure and export those; 0: no",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="log to OUT/<stage>/tensorboard besides log.csv (needs the package)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="continue where the run stopped")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--note", default="", help="kept in the exported files' metadata")
    tokenizer = parser.add_argument_group("tokenizer")
    tokenizer.add_argument(
        "--commitment", type=float, metavar="WEIGHT", help="of keeping features near their codes"
    )
    tokenizer.add_argument(
        "--entropy",
        type=float,
        metavar="WEIGHT",
        help="of bits that are decided and used both ways (default: 0, not shown to help)",
    )
    student = parser.add_argument_group("encoder and student")
    student.add_argument(
        "--degradation",
        default="x4,mild",
        metavar="PRESETS",
        help="comma-separated; each training picture draws one (default: %(default)s); of "
        + ", ".join(PRESETS),
    )
    student.add_argument(
        "--lora-rank", type=int, default=0, help="train only adapters of this rank (0: everything)"
    )
    student.add_argument(
        "--kl", type=float, help="weight of the KL to the teacher; 0: no distillation"
    )
    student.add_argument("--mse", type=float, help="weight of the picture's squared error")
    student.add_argument(
        "--perceptual",
        choices=("structural", "lpips"),
        default="structural",
        help="kind of the perceptual loss; lpips needs its package and weights (default: %(default)s)",
    )
    student.add_argument("--perceptual-weight", type=float, help="weight of the perceptual loss")
    student.add_argument(
        "--cross-entropy", type=float, help="weight of the clean bits; 0: the paper's"
    )
    student.add_argument("--causal", action="store_true", help="no cross-scale attention")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the stage that the arguments name; return the exit status."""
    import torch

    from ..distill.run import STAGES, run_export, run_stage

    if args.threads:
        torch.set_num_threads(args.threads)
    settings = settings_from(args)
    with _Bars() as report:
        for stage in STAGES:
            if args.stage in (stage, "all"):
                run_stage(stage, settings, report)
    if args.stage in ("export", "all"):
        for path in run_export(settings, args.note):
            print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    return 0


def settings_from(args: argparse.Namespace) -> RunSettings:
    """Turn the arguments into settings; what was not given keeps its default."""
    import dataclasses

    from ..distill.degrade import parse_mix
    from ..distill.run import DEFAULT_STEPS, RunSettings, load_config

    steps = dict(DEFAULT_STEPS)
    if args.steps is not None and args.stage == "all":
        share = args.steps / DEFAULT_STEPS["tokenizer"]
        steps.update({stage: max(1, round(n * share)) for stage, n in DEFAULT_STEPS.items()})
    elif args.steps is not None and args.stage in steps:
        steps[args.stage] = args.steps
    settings = RunSettings(
        out=args.out,
        data=args.data,
        validation=args.validation,
        pictures=args.pictures,
        workers=args.workers,
        steps=steps,
        learning_rate=args.learning_rate,
        accumulate=args.accumulate,
        ema=args.ema,
        tensorboard=args.tensorboard,
        stop_at=args.stop_at,
        seed=args.seed,
        resume=args.resume,
        device=args.device,
    )
    mix = parse_mix(args.degradation)
    batch = {} if args.batch is None else {"batch": args.batch}
    student = dataclasses.replace(
        settings.student_settings,
        degradation=mix,
        perceptual=args.perceptual,
        lora_rank=args.lora_rank,
        causal=args.causal,
        **_given(args, "kl", "mse", "perceptual_weight", "cross_entropy"),
        **batch,
    )
    settings = dataclasses.replace(
        settings,
        tokenizer_settings=dataclasses.replace(
            settings.tokenizer_settings, **_given(args, "commitment", "entropy"), **batch
        ),
        teacher_settings=dataclasses.replace(settings.teacher_settings, **batch),
        encoder_settings=dataclasses.replace(settings.encoder_settings, degradation=mix, **batch),
        student_settings=student,
    )
    return settings if args.config is None else load_config(settings, args.config)


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the arguments that were given."""
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


class _Bars:
    """One progress bar at a time, named after what is going on."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""

    def __enter__(self) -> Report:
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, what: str, done: int, total: int, loss: float | None) -> None:
        from tqdm import tqdm

        if what != self._what:
            if self._bar is not None:
                self._bar.close()
            self._bar, self._what = tqdm(desc=what, total=total, initial=done - 1), what
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)
