"""`varestorer degrade`: create low-quality test pictures from good ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import __version__
from ..wording import counted
from .batch import Batch, Task, Worker
from .effects import check_cluster_options
from .jobs import check_format, check_writable, plan_jobs
from .manifest import run_manifest
from .options import add_cluster_options, add_run_options, between, integer
from .restoring import write_result

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
"""Copied from `degradation`, which imports torch, unlike the help text."""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "degrade",
        help="create low-quality test pictures",
        description="Degrade pictures with a preset. The same seed and picture produce the same "
        "result; every picture of a run uses different random numbers.",
    )
    parser.add_argument("input", nargs="+", help="picture, or folder of pictures")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a file name for one picture (.png, .jpg, .webp, .tif, .bmp), otherwise a folder",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        required=True,
        help="kind of degradation; docs/evaluation.md lists the ranges of each",
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
        help=(
            "format of the results in a folder (default: png); jpg compresses once more, at "
            "quality 95"
        ),
    )
    add_run_options(parser)
    add_cluster_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Degrade every picture; return 1 if one of them failed or was skipped."""
    check_cluster_options(args)
    ending = f".{args.format or 'png'}"
    if args.cluster is not None:
        from .cluster import check_ray

        check_ray()
    jobs, skipped = plan_jobs(
        args.input,
        args.output,
        ending=ending,
        recursive=args.recursive,
        remote=args.cluster is not None,
    )
    check_format(args.format, jobs[0].target)
    check_writable(jobs[0].target.parent)
    batch = Batch(
        "degraded",
        {"preset": args.preset, "seed": args.seed, "scale": args.scale, "version": __version__},
        numbered=True,
        manifest=run_manifest(args, jobs[0].target),
        skip_existing=args.skip_existing,
        json_lines=args.json,
        debug=args.debug,
    )
    steps = Degrading(args.preset, args.seed, args.scale)
    if args.cluster is None:
        batch.run(jobs, steps, [steps.work])
        batch.summary(skipped)
    else:
        from .cluster import ActorSettings, connected, run_on_cluster

        cluster = connected(args.cluster)
        given = ActorSettings(steps, steps.worker, "cpu", args.threads or 1)
        actors = run_on_cluster(cluster, args.workers, given, jobs, batch)
        batch.summary(skipped, f" by {counted(actors, 'actor')}", actors=actors)
    return 1 if batch.failed or skipped.pictures else 0


@dataclass(frozen=True)
class Degrading:
    """Steps of `degrade`; see `batch.Steps`."""

    preset: str
    seed: int
    scale: float

    def read(self, task: Task) -> int:
        """See `Steps.read`."""
        from ..pictures import read_picture

        task.picture = read_picture(task.job.source)
        for note in task.picture.notes:
            task.note(note)
        return task.picture.rgb[0].numel()

    def worker(self) -> Worker:
        """Return the worker, which needs no models."""
        return self.work

    def work(self, tasks: Sequence[Task]) -> None:
        """Degrade the pictures of tasks, each with the seed and its index."""
        from ..degradation import degrade, picture_generator

        for task in tasks:
            assert task.picture is not None
            generator = picture_generator(self.seed, task.index)
            task.result = degrade(task.picture.rgb, self.preset, generator, scale=self.scale)

    def write(self, task: Task) -> tuple[int, int]:
        """See `Steps.write`. Degraded values have 8 bits, so the file needs no more."""
        assert task.picture is not None
        write_result(task, replace(task.picture, bit_depth=8))
        return task.result.shape[-2], task.result.shape[-1]
