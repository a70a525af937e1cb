"""Options of `varestorer distill` for the tokenizer: its initialisation and its losses."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError
from .options import between


def add_tokenizer_options(parser: argparse.ArgumentParser) -> None:
    """Add the training options of the tokenizer."""
    group = parser.add_argument_group("tokenizer")
    group.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="initialise from this tokenizer, with the same bits and widths, and as many "
        "residual blocks per level or fewer; with --base: continue these adapters, or those in "
        "varestorer.pth",
    )
    group.add_argument(
        "--commitment",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="weight of the commitment loss",
    )
    group.add_argument(
        "--entropy",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="weight of the entropy loss, for confident bits with both values in use (default: 0; no benefit was "
        "found)",
    )


def check_init(args: argparse.Namespace) -> None:
    """Raise an error for --init if it has no effect, or if the file does not exist.

    Raises:
        UsageError: in either case.
    """
    if args.init is None:
        return
    files = args.base is not None
    if args.stage not in (("student", "all") if files else ("tokenizer", "all")):
        raise UsageError(
            "--init has an effect only in the stages tokenizer and all, and with --base in the student's."
        )
    if not args.init.is_file():
        raise UsageError(f"--init {args.init}: no such file.")
