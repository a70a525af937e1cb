"""`varestorer degrade`: good pictures in, low-quality test pictures out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from . import UsageError
from .batch import Batch, Report
from .jobs import Job, check_writable, plan_jobs
from .options import between, integer
from .restore import write_result

PRESETS = (
    "official",
    "real",
    "mild",
    "social",
    "x4",
    "rain",
    "low_light",
    "salt_and_pepper",
    "heavy_jpeg",
    "motion_blur",
)
"""As in `degradation`, which imports torch; help must not."""

_ENDINGS = {"png": (".png",), "jpg": (".jpg", ".jpeg")}


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "degrade",
        help="make low-quality test pictures",
        description="Degrade pictures by a preset. The same seed and picture give the same result; "
        "the second picture of a run draws other numbers than the first.",
    )
    parser.add_argument("input", nargs="+", help="picture, or folder of pictures (not recursive)")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="for one picture a file name (.png, .jpg, .webp, .tif, .bmp), else a folder",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        required=True,
        help="kind of damage; docs/evaluation.md has the ranges of each",
    )
    parser.add_argument(
        "--seed", type=integer(0, 2**64 - 1), default=0, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--scale",
        type=between(1.0, 64.0),
        default=1.0,
        metavar="S",
        help="the result's sides are 1/S of the original's (default: %(default)g: same size)",
    )
    parser.add_argument(
        "--format",
        choices=("png", "jpg"),
        help="of the results in a folder (default: png); jpg compresses once more, at quality 95",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Degrade every picture; return 1 if one of them failed."""
    jobs, skipped = plan_jobs(args.input, args.output, ending=f".{args.format or 'png'}")
    target = jobs[0].target
    if args.format is not None and target.suffix.lower() not in _ENDINGS[args.format]:
        raise UsageError(
            f"--format {args.format} does not agree with {target}. Leave it out: the name decides."
        )
    check_writable(target.parent)
    batch = Batch("degraded", {}, debug=args.debug)
    batch.run(jobs, lambda job, index, report: _degrade_file(job, index, args, report))
    batch.summary(skipped)
    return 1 if batch.failed else 0


def _degrade_file(
    job: Job, index: int, args: argparse.Namespace, report: Report
) -> tuple[int, int]:
    """Read, degrade and write one picture; return its new (height, width)."""
    from ..degradation import degrade, picture_generator
    from ..pictures import read_picture

    picture = read_picture(job.source)
    for note in picture.notes:
        report.note(note)
    generator = picture_generator(args.seed, index)
    lq = degrade(picture.rgb, args.preset, generator, scale=args.scale)
    # Degraded values have 8 bits, so the file needs no more.
    write_result(job, replace(picture, bit_depth=8), lq, report)
    return lq.shape[-2], lq.shape[-1]
