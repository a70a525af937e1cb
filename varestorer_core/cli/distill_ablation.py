"""`varestorer distill ablation`: train variants of the student under equal conditions and compare them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import UsageError
from .degrade import PRESETS
from .distill_progress import Bars
from .options import integer

if TYPE_CHECKING:
    from ..distill.run import RunSettings


def add_ablation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the ablation."""
    group = parser.add_argument_group("ablation")
    group.add_argument(
        "--seeds",
        default="0",
        metavar="N,...",
        help="comma-separated seeds of training; with several, the standard error is over them, else over the "
        "photographs (default: %(default)s)",
    )
    group.add_argument(
        "--photographs",
        metavar="DIR",
        help="photographs for the comparison, at least --size pixels a side (default: the ten of scikit-image)",
    )
    group.add_argument(
        "--preset",
        choices=PRESETS,
        default="x4",
        help="degradation of the photographs (default: %(default)s)",
    )
    group.add_argument(
        "--scale",
        type=integer(1, 8),
        default=4,
        metavar="S",
        help="how many times smaller the degraded photographs are (default: %(default)s)",
    )
    group.add_argument(
        "--size",
        type=integer(64, 4096),
        default=256,
        metavar="PIXELS",
        help="side of the squares that photographs are cropped to (default: %(default)s)",
    )


def seeds_from(text: str) -> tuple[int, ...]:
    """Return the seeds of a comma-separated list.

    Raises:
        UsageError: if it is not such a list.
    """
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise UsageError(f"--seeds must be comma-separated whole numbers, got {text!r}.") from error
    if min(seeds) < 0:
        raise UsageError(f"--seeds must be 0 or more, got {text!r}.")
    return seeds


def run_and_print(args: argparse.Namespace, settings: RunSettings) -> int:
    """Run the ablation, print its table and, as the last line, its JSON document."""
    from ..distill.ablation import AblationSettings, run_ablation

    if args.no_distill or args.no_kl or args.causal:
        raise UsageError(
            "The ablation trains every variant itself: leave out --no-distill, --no-kl and "
            "--no-cross-scale."
        )
    if args.train_decoder:
        raise UsageError(
            "The ablation compares students behind one decoder: leave out --train-decoder."
        )
    if args.size % args.scale:
        raise UsageError(f"--size {args.size} must be a multiple of --scale {args.scale}.")
    ablation = AblationSettings(
        seeds=seeds_from(args.seeds), preset=args.preset, scale=args.scale, size=args.size
    )
    photographs = _photographs(args.photographs)
    with Bars() as report:
        document = run_ablation(settings, ablation, photographs, report)
    folder = settings.out / "ablation"
    print((folder / "table.md").read_text())
    print(f"wrote {folder / 'table.md'} and {folder / 'ablation.json'}")
    print(json.dumps(document))
    return 0


def _photographs(folder: str | None) -> list[Path]:
    if folder is not None:
        from .finding import collect_pictures

        return collect_pictures([folder])[0]
    from ..evaluate import scikit_image_photographs

    found, missing = scikit_image_photographs()
    if missing:
        print(
            f"varestorer: this version of scikit-image does not contain {', '.join(missing)}; using the "
            f"other {len(found)}",
            file=sys.stderr,
        )
    return found
