"""The options of `varestorer restore`, which other commands share, and the settings that decide the
pixels of a result."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from .device import DTYPES

COLOR_MATCH = ("none", "wavelet", "adain", "lab")
"""As in `color`, which imports torch; help must not."""


@dataclass(frozen=True)
class Settings:
    """What decides the pixels of a result; the same defaults as the nodes have."""

    upscale: float = 2.0
    seed: int = 0
    detail: float = 0.0
    fidelity: float = 0.0
    overlap: int = 64
    color_match: str = "wavelet"
    tile_batch: int = 4
    """Only speed, on a GPU: no result depends on it beyond rounding, and none at all on a CPU."""


def add_restore_options(parser: argparse.ArgumentParser) -> None:
    """Add input, output and every option."""
    default = Settings()
    parser.add_argument("input", nargs="+", help="picture, or folder of pictures (not recursive)")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="for one picture a file name (.png, .jpg, .webp, .tif, .bmp), else a folder, where "
        "the results are PNG files called like their sources",
    )
    parser.add_argument(
        "--upscale",
        type=between(0.25, 8.0),
        default=default.upscale,
        metavar="FACTOR",
        help="enlargement, 0.25 to 8 (default: %(default)g); 1 only restores",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also write NAME_compare.png: input (bicubic) and result side by side",
    )
    add_model_options(parser)
    add_sampling_options(parser, default)
    add_device_options(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the files of the networks; `models.model_files` reads them."""
    group = parser.add_argument_group("models (default: the bundled tiny pair)")
    group.add_argument("--model", metavar="FILE", help="transformer, such as varestorer.pth")
    group.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="FILE",
        help="low-rank adapter for the transformer, such as `distill export` writes; repeat for several",
    )
    group.add_argument(
        "--adapter-strength",
        type=between(0.0, 2.0),
        default=1.0,
        metavar="STRENGTH",
        help="of every adapter, 0 (the transformer as it is) to 2; default: %(default)g",
    )
    group.add_argument("--vae", metavar="FILE", help="tokenizer, such as infinity_vae_d32reg.pth")
    group.add_argument("--cleaner", metavar="FILE", help="SwinIR, such as general_swinir_v1.ckpt")
    group.add_argument("--text-encoder", metavar="FOLDER", help="local copy of flan-t5-xl")
    group.add_argument("--prompt", metavar="TEXT", help="describes the picture; see --text-encoder")


def add_sampling_options(
    parser: argparse.ArgumentParser,
    default: Settings,
    *,
    seed_of: str = "the sampling noise; no effect while --detail is 0",
) -> None:
    """Add what decides the pixels besides the size."""
    group = parser.add_argument_group("restoration")
    group.add_argument(
        "--detail",
        type=between(0.0, 1.0),
        default=default.detail,
        metavar="STRENGTH",
        help="strength of the sampling noise, 0 (most likely bits) to 1 (as the official code "
        "samples); default: %(default)g",
    )
    group.add_argument(
        "--fidelity",
        type=between(0.0, 20.0),
        default=default.fidelity,
        metavar="LOG_ODDS",
        help="pull of every bit towards the input's, 0 (none) to 20 (the input as the tokenizer "
        "sees it); 1 to 4 calm an inventive model (default: %(default)g)",
    )
    group.add_argument(
        "--seed",
        type=integer(0, 2**64 - 1),
        default=default.seed,
        metavar="N",
        help=f"of {seed_of} (default: %(default)s)",
    )
    group.add_argument(
        "--overlap",
        type=integer(0, None),
        default=default.overlap,
        metavar="PIXELS",
        help="that neighbouring tiles share at least (default: %(default)s)",
    )
    group.add_argument(
        "--color-match",
        choices=COLOR_MATCH,
        default=default.color_match,
        help="how the result takes its colours from the input (default: %(default)s)",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add where and how fast to compute."""
    group = parser.add_argument_group("speed and memory")
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)"
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="type of the transformer's weights; auto is bf16 on CUDA, else fp32",
    )
    group.add_argument(
        "--tile-batch",
        type=integer(1, None),
        default=Settings.tile_batch,
        metavar="N",
        help="tiles at once on a GPU, halved when memory runs out; a CPU takes one (default: %(default)s)",
    )


def between(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # also refuses "nan"
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}, got {text}")
        return value

    parse.__name__ = "number"  # argparse: "invalid number value: 'x'"
    return parse


def integer(low: int, high: int | None) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`, None without end."""

    def parse(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be {limits}, got {text}")
        return value

    parse.__name__ = "whole number"
    return parse


def settings_from(args: argparse.Namespace, *, upscale: float) -> Settings:
    """Return the settings that were given."""
    return Settings(
        upscale=upscale,
        seed=args.seed,
        detail=args.detail,
        fidelity=args.fidelity,
        overlap=args.overlap,
        color_match=args.color_match,
        tile_batch=args.tile_batch,
    )
