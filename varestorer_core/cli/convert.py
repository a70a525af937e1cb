"""`varestorer convert`: convert official files to self-describing safetensors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "convert",
        help="write an official file as one safetensors file",
        description="Write a checkpoint as one safetensors file with its configuration and the "
        "SHA-256 of its source. Adapters stay separate weights.",
    )
    parser.add_argument("file", help="checkpoint, or folder of flan-t5-xl (its encoder is written)")
    parser.add_argument(
        "-o", "--output", required=True, help="file to write (.safetensors), or an existing folder"
    )
    parser.add_argument(
        "--dtype",
        choices=("bf16", "fp16", "fp32", "keep"),
        help="type to store; for a transformer, that of the blocks' matrices, since the rest is "
        "computed in float32 (default: bf16 for transformers and adapters, keep for the others)",
    )
    parser.add_argument(
        "--adapter-only", action="store_true", help="write the adapter without its base model"
    )
    parser.add_argument(
        "--pixel-class",
        choices=("0.06M", "0.25M", "0.60M", "1M"),
        help="tile size of the written transformer, also in the nodes: 256, 512, 768 or 1024 "
        "pixels a side with the official tokenizer (default: that of the file)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert a file and print what was written."""
    from ..checkpoint import convert

    source, output = Path(args.file), Path(args.output)
    if output.is_dir():
        output = output / f"{source.stem}{'_adapter' if args.adapter_only else ''}.safetensors"
    info = convert(
        source,
        output,
        dtype=args.dtype,
        adapter_only=args.adapter_only,
        pixel_class=args.pixel_class,
        on_progress=_show_progress if sys.stderr.isatty() else None,
    )
    print(
        f"{output}: {info.description}, {info.counts.parameters:,} parameters, {info.dtype}, "
        f"{output.stat().st_size / 1e6:.1f} MB"
    )
    return 0


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB", end=end, file=sys.stderr, flush=True)
