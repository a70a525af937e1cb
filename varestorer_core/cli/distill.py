"""`varestorer distill`: train a tokenizer, a teacher and a one-step student, and export them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import UsageError
from .device import device_and_dtype
from .distill_ablation import add_ablation_options, run_and_print
from .distill_data import add_data_options, check_folders
from .distill_export import add_export_options, recommendation
from .distill_help import StageHelp
from .distill_import import add_import_options, imported_files
from .distill_progress import Bars, show_log
from .distill_stages import STAGES, check_options, usual_values
from .distill_student import (
    add_full_size_options,
    add_student_options,
    base_files,
    degradation,
    encode_prompt,
    student_settings,
)
from .distill_tokenizer import add_tokenizer_options, check_init
from .options import above_zero, between, folder, integer

if TYPE_CHECKING:
    from ..distill.run import RunSettings

_MOST_THREADS = 1024
"""More than the cores of any machine; the process ends if the system runs out of threads."""
_EPILOG = """\
Stages build on each other and share one folder: tokenizer, teacher, encoder (the tokenizer's,
fine-tuned on degraded pictures; optional), student, export. "all" runs all five; --steps is then
the number of the tokenizer's steps, and the other stages are scaled in proportion. Sample sheets
appear in OUT/<stage>/sheets while a stage runs: look at them.

Three more stages fine-tune the decoder and are not part of "all": decoder, on the bits of the
encoder, before the student; student_decoder, on those of the student; crisp_decoder, from there
with a discriminator, exported as a separate tokenizer.

With --base and --vae, files replace the first two stages, and the student is adapters on the base:
  varestorer distill student --base infinity_2b_reg.pth --vae infinity_vae_d32reg.pth \
      --data PHOTOS --rank 32 --device cuda --out RUN
  varestorer distill export --out RUN

Options that the stage does not use are refused; "all" accepts those of the training stages and of export.

"import" begins a run with exported files, by default the bundled ones, whose training can then be continued:
  varestorer distill import --out RUN
  varestorer distill student --out RUN --resume --data PHOTOS

"ablation" trains four students from the teacher of the run (complete, without distillation, without
cross-scale attention, and without the KL divergence) and compares them on photographs.
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "distill",
        help="train a small model of your own",
        description="Train a tokenizer, a teacher and a one-step student from procedural or your own pictures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument(
        "-h",
        "--help",
        action=StageHelp,
        help="show the options, after STAGE only those of the stage",
    )
    parser.add_argument("stage", choices=STAGES, help="stage to run")
    parser.add_argument(
        "--out", type=folder, required=True, metavar="DIR", help="folder of the run"
    )
    add_data_options(parser)
    parser.add_argument("--config", type=Path, metavar="FILE", help="shapes (a run's config.json)")
    parser.add_argument("--steps", type=integer(1, None), help="total number of optimiser steps")
    parser.add_argument(
        "--stop-at", type=integer(1, None), metavar="STEP", help="pause here; --resume continues"
    )
    parser.add_argument(
        "--minutes",
        type=above_zero,
        metavar="N",
        help="save and stop after this many minutes, drawing of pictures included; --resume continues",
    )
    parser.add_argument(
        "--save-every",
        type=integer(1, None),
        metavar="STEPS",
        help="steps between saved states (default: 200)",
    )
    parser.add_argument(
        "--evaluate-every",
        type=integer(1, None),
        metavar="STEPS",
        help="steps between validations (default: 200)",
    )
    parser.add_argument("--batch", type=integer(1, None), help="pictures per step")
    parser.add_argument("--learning-rate", type=above_zero, help="peak learning rate")
    parser.add_argument(
        "--warmup",
        type=integer(0, None),
        metavar="STEPS",
        help="steps over which the learning rate rises to its peak (default: 50)",
    )
    parser.add_argument(
        "--amp",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="bfloat16 autocast on devices that are faster with it; --no-amp: float32 everywhere",
    )
    parser.add_argument(
        "--accumulate",
        type=integer(1, None),
        default=1,
        metavar="N",
        help="batches per step whose gradients are accumulated: a larger batch in the same memory",
    )
    parser.add_argument(
        "--ema",
        type=between(0, 0.99999),
        default=0.0,
        metavar="DECAY",
        help=(
            "decay of an exponential moving average of the weights, such as 0.999, which is then "
            "validated and exported; 0: off"
        ),
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="log to OUT/<stage>/tensorboard besides log.csv (needs the package)",
    )
    parser.add_argument(
        "--seed",
        type=integer(0, 2**31),
        default=0,
        help="seed of weights, pictures and degradations",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue where the stage stopped")
    again.add_argument("--overwrite", action="store_true", help="train the stage from scratch")
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="continue with other settings than the stage was started with, which is recorded; export a state that is "
        "not the run's last",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)"
    )
    parser.add_argument("--compile", action="store_true", help="use torch.compile; slow at first")
    parser.add_argument(
        "--threads", type=integer(1, _MOST_THREADS), metavar="N", help="CPU threads"
    )
    parser.add_argument("--note", default="", help="text for the exported files' metadata")
    add_tokenizer_options(parser)
    add_student_options(parser)
    add_full_size_options(parser)
    add_import_options(parser)
    add_export_options(parser)
    add_ablation_options(parser)
    parser.set_defaults(run=run, usual=usual_values(parser))


def run(args: argparse.Namespace) -> int:
    """Run the stage that the arguments name; return the exit status."""
    import torch

    from ..distill import run as stages

    if args.threads:
        torch.set_num_threads(args.threads)
    settings = run_settings_from(args)
    recommendation(args)  # checked before hours of training
    show_log()
    if args.stage == "import":
        for path in stages.run_import(settings, *imported_files(args)):
            print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
        return 0
    if args.stage == "ablation":
        return run_and_print(args, settings)
    with Bars() as report:
        for stage in stages.STAGES:
            # In a run on files, the files replace the first two stages.
            wanted = args.stage == "all" and stage not in stages.OPTIONAL
            wanted = wanted and (settings.base is None or stage == "student")
            if (args.stage == stage or wanted) and not stages.run_stage(stage, settings, report):
                return 0  # paused: later stages need a finished one
    if not settings.processes.first:
        return 0
    if args.stage in ("export", "all"):
        name = "tiny" if settings.base is None and not stages.on_files(settings) else "varestorer"
        for path in stages.run_export(settings, args.note, name, recommendation(args)):
            print(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    return 0


def run_settings_from(args: argparse.Namespace) -> RunSettings:
    """Convert the arguments to settings; options that were not given keep their defaults."""
    import dataclasses

    from ..distill.processes import ALONE, accelerate_processes
    from ..distill.run import DEFAULT_STEPS, FULL_SIZE_STEPS, RunSettings, load_config

    check_options(args)
    check_folders(args)
    files = base_files(args)
    check_init(args)
    processes = ALONE
    if args.accelerate:
        if args.stage not in ("student", "all"):
            raise UsageError("--accelerate trains the student only.")
        processes = accelerate_processes()
    steps = dict(DEFAULT_STEPS)
    if files is not None or args.stage == "ablation":
        usual = FULL_SIZE_STEPS if files is not None else DEFAULT_STEPS["student"]
        steps["student"] = args.steps or usual
    if args.steps is not None and args.stage == "all" and files is None:
        share = args.steps / DEFAULT_STEPS["tokenizer"]
        steps.update({stage: max(1, round(n * share)) for stage, n in DEFAULT_STEPS.items()})
    elif args.steps is not None and args.stage in steps:
        steps[args.stage] = args.steps
    settings = RunSettings(
        out=args.out,
        data=args.data,
        validation=args.validation,
        pictures=args.pictures,
        squares=args.squares,
        workers=args.workers,
        steps=steps,
        learning_rate=args.learning_rate,
        warmup=args.warmup,
        accumulate=args.accumulate,
        ema=args.ema,
        tensorboard=args.tensorboard,
        stop_at=args.stop_at,
        seed=args.seed,
        resume=args.resume,
        overwrite=args.overwrite,
        allow_changes=args.allow_changes,
        device=processes.device or str(device_and_dtype(args.device, "fp32")[0]),
        compile_options={} if args.compile else None,
        validation_pictures=args.validation_pictures,
        deadline=None if args.minutes is None else time.monotonic() + 60 * args.minutes,
        save_every=args.save_every,
        evaluate_every=args.evaluate_every,
        given_config=args.config,
        init=args.init,
        base=files,
        processes=processes,
    )
    settings = dataclasses.replace(settings, prompt=encode_prompt(args, settings))
    batch: dict[str, Any] = {"amp": args.amp}
    if args.batch is not None:
        batch["batch"] = args.batch
    mix = degradation(args)
    edges: dict[str, Any] = {}
    if args.edges is not None:
        edges = {"gradient_similarity": args.edges, "gradient_deviation": args.edges}
    student = student_settings(args, settings.student_settings)
    settings = dataclasses.replace(
        settings,
        tokenizer_settings=dataclasses.replace(
            settings.tokenizer_settings, **_given(args, "commitment", "entropy"), **batch
        ),
        teacher_settings=dataclasses.replace(settings.teacher_settings, **batch),
        encoder_settings=dataclasses.replace(
            settings.encoder_settings,
            degradation=mix,
            rank=args.encoder_rank,
            **edges,
            **batch,
        ),
        decoder_settings=dataclasses.replace(
            settings.decoder_settings, degradation=mix, **edges, **batch
        ),
        crisp_settings=dataclasses.replace(
            settings.crisp_settings,
            degradation=mix,
            **_given(args, "adversarial"),
            **edges,
            **batch,
        ),
        student_settings=student,
    )
    return settings if args.config is None else load_config(settings, args.config)


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the arguments that were given."""
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
