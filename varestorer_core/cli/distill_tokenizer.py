"""The options of `varestorer distill` for the tokenizer: where it starts, and its losses."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError
from .options import between


def add_tokenizer_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how the tokenizer trains."""
    group = parser.add_argument_group("tokenizer")
    group.add_argument(
        "--init",
        type=Path,
        metavar="FILE",
        help="start from this tokenizer instead of from nothing: same bits and widths, and as many "
        "residual blocks a level or fewer",
    )
    group.add_argument(
        "--commitment",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="of keeping features near their codes",
    )
    group.add_argument(
        "--entropy",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="of bits that are decided and used both ways (default: 0, not shown to help)",
    )


def check_init(args: argparse.Namespace) -> None:
    """Refuse --init where it has no effect, and a file that is not there.

    Raises:
        UsageError: saying which of the two.
    """
    if args.init is None:
        return
    if args.stage not in ("tokenizer", "all") or args.base is not None:
        raise UsageError(
            "--init names what the tokenizer starts from: give it with the stage tokenizer or all, "
            "and without --base."
        )
    if not args.init.is_file():
        raise UsageError(f"--init {args.init}: no such file.")
