"""Checks of `restore` and `degrade` for options that would have no effect, before any work."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError


def check_cluster_options(args: argparse.Namespace) -> None:
    """Raise an error for options of a cluster without --cluster.

    Raises:
        UsageError: naming the option.
    """
    for option in ("workers", "threads"):
        if args.cluster is None and getattr(args, option) is not None:
            raise UsageError(
                f"--{option} has an effect only together with --cluster. Leave it out."
            )


def check_device_options(args: argparse.Namespace) -> None:
    """Raise an error for device options that others replace, or that a cluster does not support.

    Raises:
        UsageError: naming the option.
    """
    if args.cluster is not None:
        if args.devices is not None:
            raise UsageError(
                "--devices selects devices of this machine and has no effect on a cluster. Leave it out."
            )
        if args.device not in ("auto", "cpu", "cuda"):
            raise UsageError(
                f"--device {args.device}: with --cluster, expected auto, cpu or cuda; Ray assigns each actor its GPU."
            )
    elif args.devices is not None and args.device != "auto":
        raise UsageError(f"--devices replaces --device {args.device}. Leave one of them out.")


def check_threads(threads: int | None, device: str) -> None:
    """Raise an error for --threads if the actors have GPUs.

    Raises:
        UsageError: naming the option.
    """
    if threads is not None and device != "cpu":
        raise UsageError(
            "--threads has an effect only on actors without a GPU. Leave it out, or add --device cpu."
        )


def check_quality(quality: int | None, target: Path) -> None:
    """Raise an error for --quality if the format of the results has none.

    Args:
        target: a result; all results of a run have the same format.

    Raises:
        UsageError: naming the formats that have a quality.
    """
    from ..pictures import FORMATS

    file_format = FORMATS[target.suffix.lower()]
    if quality is not None and file_format not in ("JPEG", "WEBP"):
        raise UsageError(
            f"--quality has an effect only on JPEG and WebP results, and {target.name} is {file_format}. Leave it out, "
            "or choose another format (.jpg, .webp, or --format for a folder)."
        )
