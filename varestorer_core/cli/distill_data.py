"""Options of `varestorer distill` for the training and validation pictures of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError
from .options import integer

_MOST_WORKERS = 256
_MOST_PICTURES = 10_000_000  # a terabyte at the default size
_MOST_MEASURED = 10_000  # they stay in memory


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the source and number of pictures, and the processes that draw them."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="training pictures (default: procedural ones)"
    )
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="validation pictures (default: held out from --data, or procedural ones without it)",
    )
    parser.add_argument(
        "--pictures",
        type=integer(1, _MOST_PICTURES),
        default=5000,
        metavar="N",
        help="number of procedural pictures to generate (default: %(default)s)",
    )
    parser.add_argument(
        "--squares",
        type=integer(1, None),
        metavar="N",
        help="with --data: crop every picture to up to N squares once and add --pictures procedural "
        "ones (stored in OUT/squares.npy); suits a few hundred photographs",
    )
    parser.add_argument(
        "--validation-pictures",
        type=integer(1, _MOST_MEASURED),
        default=80,
        metavar="N",
        help="maximum number of validation pictures (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=integer(0, _MOST_WORKERS),
        default=2,
        metavar="N",
        help="processes that generate pictures, and that draw, decode and degrade them ahead of the training step; 0 "
        "uses the training process (default: %(default)s)",
    )


def check_folders(args: argparse.Namespace) -> None:
    """Raise an error for folders that do not exist or cannot be written, before any work."""
    for option, folder in (("--data", args.data), ("--validation", args.validation)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{option} {folder}: no such folder of pictures.")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out}: it exists and is not a folder. Choose another name.")
