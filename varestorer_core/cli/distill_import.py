"""`varestorer distill import`: begin a run with exported files."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import UsageError


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a run that begins with exported files."""
    group = parser.add_argument_group("import")
    group.add_argument(
        "--model",
        metavar="FILE",
        help="student to begin with, such as `export` writes; its tokenizer is --vae (default: the bundled ones)",
    )


def imported_files(args: argparse.Namespace) -> tuple[Path, Path]:
    """Return the student and the tokenizer to begin with.

    Raises:
        UsageError: if only one was named, or one does not exist.
    """
    from ..assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path

    if args.model is None and args.vae is None:
        return asset_path(TINY_TRANSFORMER), asset_path(TINY_TOKENIZER)
    if args.model is None or args.vae is None:
        raise UsageError("--model and --vae belong together: specify both, or neither.")
    for option, path in (("--model", args.model), ("--vae", args.vae)):
        if not Path(path).is_file():
            what = "not a file" if Path(path).exists() else "no such file"
            raise UsageError(f"{option} {path}: {what}.")
    return Path(args.model), Path(args.vae)
