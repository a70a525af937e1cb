"""The options of `varestorer distill` that say on what, how long and where to train."""

from __future__ import annotations

import argparse
from pathlib import Path

from .distill_reads import StageOptions
from .options import above_zero, between, integer


def add_training_options(parser: StageOptions) -> None:
    """Add what the stage reads."""
    steps, rate = parser.defaults()
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="training pictures (default: procedural ones)"
    )
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="pictures to measure on (default: a tenth of those of --data, which then are not trained on; "
        "without it procedural ones)",
    )
    parser.add_argument(
        "--pictures",
        type=integer(1, None),
        default=5000,
        metavar="N",
        help="procedural pictures to make (default: %(default)s)",
    )
    parser.add_argument(
        "--squares",
        type=integer(1, None),
        metavar="N",
        help="with --data: cut every picture into up to N squares once and add --pictures procedural "
        "ones (kept in OUT/squares.npy); suits a few hundred photographs",
    )
    parser.add_argument(
        "--validation-pictures",
        type=integer(1, None),
        default=80,
        metavar="N",
        help="pictures to measure on at most (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=integer(0, None),
        default=2,
        metavar="N",
        help="processes that generate pictures, and that draw, decode and degrade them ahead of the training step; 0: "
        "the training process does (default: %(default)s)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="shapes (a run's config.json)")
    parser.add_argument(
        "--steps", type=integer(1, None), help=f"optimiser steps in all (default: {steps})"
    )
    parser.add_argument(
        "--stop-at", type=integer(1, None), metavar="STEP", help="pause here; --resume continues"
    )
    parser.add_argument(
        "--minutes",
        type=above_zero,
        metavar="N",
        help="save and stop after so many minutes; --resume continues",
    )
    parser.add_argument(
        "--save-every", type=integer(1, None), metavar="STEPS", help="save so often (default: 200)"
    )
    parser.add_argument(
        "--evaluate-every",
        type=integer(1, None),
        metavar="STEPS",
        help="measure on the validation pictures so often (default: 200)",
    )
    parser.add_argument(
        "--batch",
        type=integer(1, None),
        help="pictures a step (default: 8 for the tokenizer, 4 for others; with --base: 1)",
    )
    parser.add_argument(
        "--learning-rate", type=above_zero, help=f"peak learning rate (default: {rate})"
    )
    parser.add_argument(
        "--warmup",
        type=integer(0, None),
        metavar="STEPS",
        help="over which the learning rate rises to its peak (default: 50)",
    )
    parser.add_argument(
        "--amp",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="bfloat16 autocast on devices that are faster in it; --no-amp: float32 everywhere",
    )
    parser.add_argument(
        "--accumulate",
        type=integer(1, None),
        default=1,
        metavar="N",
        help="batches that a step adds up: a larger batch in the same memory (default: %(default)s)",
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
    parser.add_argument(
        "--seed",
        type=integer(0, 2**31),
        default=0,
        metavar="N",
        help="of all that is random (default: %(default)s)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="continue where the stage stopped")
    again.add_argument(
        "--overwrite", action="store_true", help="train the stage from nothing again"
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="continue with other settings than the stage's own, which are noted; export a state that is not the "
        "run's last",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)"
    )
    parser.add_argument("--threads", type=integer(1, None), help="CPU threads")
    parser.add_argument("--note", default="", help="kept in the exported files' metadata")
    tokenizer = parser.add_argument_group("tokenizer")
    tokenizer.add_argument(
        "--commitment",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="of keeping features near their codes (default: 0.1)",
    )
    tokenizer.add_argument(
        "--entropy",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="of bits that are decided and used both ways (default: 0, not shown to help)",
    )
