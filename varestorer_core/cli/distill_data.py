"""Options of `varestorer distill` for the pictures that a run trains and measures on."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError
from .options import integer

_MOST_WORKERS = 256
_MOST_PICTURES = 10_000_000  # a terabyte at the default size
_MOST_MEASURED = 10_000  # they stay in memory


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add where pictures come from, how many, and how many processes draw them."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="training pictures (default: procedural ones)"
    )
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR",
        help="pictures to measure on (default: procedural)",
    )
    parser.add_argument(
        "--pictures",
        type=integer(1, _MOST_PICTURES),
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
        type=integer(1, _MOST_MEASURED),
        default=80,
        metavar="N",
        help="pictures to measure on at most (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=integer(0, _MOST_WORKERS),
        default=2,
        metavar="N",
        help="processes that generate pictures, and that draw, decode and degrade them ahead of the training step; 0: "
        "the training process does (default: %(default)s)",
    )


def check_folders(args: argparse.Namespace) -> None:
    """Refuse, before anything is made or drawn, folders that cannot be what they are given as."""
    for option, folder in (("--data", args.data), ("--validation", args.validation)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{option} {folder}: no such folder of pictures.")
    if args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out {args.out}: it exists and is not a folder. Choose another name.")
