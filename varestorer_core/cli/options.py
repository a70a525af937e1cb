"""Options of `varestorer restore` that other commands share. Settings come from `settings.py`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..assets import ADAPTERS
from ..settings import SETTINGS, RestoreSettings, default_of, described_default
from .device import DTYPES


def add_restore_options(parser: argparse.ArgumentParser) -> None:
    """Add input, output and every option."""
    parser.add_argument("input", nargs="+", help="picture, or folder of pictures")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a file name for one picture (.png, .jpg, .webp, .tif, .bmp), otherwise a folder for "
        "PNG files with the names of their sources",
    )
    add_setting(parser, "upscale", metavar="FACTOR")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also write NAME_compare.png with input (bicubic) and result side by side",
    )
    add_model_options(parser)
    add_sampling_options(parser)
    add_device_options(parser)
    parser.add_argument(
        "--devices",
        metavar="N,N",
        help="restore on several GPUs at once, such as 0,1; replaces --device",
    )
    add_cluster_options(parser)
    parser.add_argument(
        "--compile",
        action="store_true",
        help=(
            "compile the networks with torch.compile: the first tiles take a minute or more "
            "longer, later tiles are faster"
        ),
    )


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for a cluster."""
    group = parser.add_argument_group("cluster (needs the extra `cluster`)")
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="use the actors of a Ray cluster: its address, or auto for the running one, or else a new one on this "
        "machine",
    )
    group.add_argument(
        "--workers",
        type=integer(1, None),
        metavar="N",
        help="number of actors (default: one for each GPU, or for each --threads CPUs if there are none)",
    )
    group.add_argument(
        "--threads",
        type=integer(1, None),
        metavar="N",
        help="CPU threads of each actor without a GPU (default: 1)",
    )


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for files: metadata, formats and names of results."""
    group = add_run_options(parser)
    group.add_argument(
        "--strip", action="store_true", help="drop resolution, EXIF, XMP and IPTC of the pictures"
    )
    group.add_argument(
        "--neutral",
        action="store_true",
        help="write grey results for colour files without colour",
    )
    group.add_argument(
        "--format",
        choices=("png", "jpg", "webp", "tif", "bmp"),
        help="format of the results in a folder (default: png)",
    )
    group.add_argument(
        "--quality",
        type=integer(1, 100),
        metavar="N",
        help="quality of JPEG and WebP results, 1 to 100 (default: 95)",
    )
    group.add_argument(
        "--suffix",
        default="",
        metavar="TEXT",
        help="add this to the names of the results in a folder",
    )


def add_run_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of every run over many files, and return the group."""
    group = parser.add_argument_group("files")
    group.add_argument("--recursive", action="store_true", help="also search subfolders")
    group.add_argument(
        "--skip-existing",
        action="store_true",
        help="skip pictures that were already restored from the same content with the same "
        "settings; continues an interrupted run",
    )
    group.add_argument(
        "--manifest",
        metavar="FILE",
        help=(
            "write a JSON line for every picture to this file; with --skip-existing, the default is a file in the "
            "folder of the results"
        ),
    )
    group.add_argument(
        "--json", action="store_true", help="print a JSON line for each picture on stdout"
    )
    return group


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the files of the networks; `models.model_files` reads them."""
    group = parser.add_argument_group("models (default: the bundled tiny pair)")
    group.add_argument("--model", metavar="FILE", help="transformer, such as varestorer.pth")
    group.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help=f"low-rank adapter for the transformer: a bundled one for the bundled model ({', '.join(ADAPTERS)}), "
        "a file such as `distill export` writes, or a folder that PEFT saved; "
        "with a strength of its own if given, such as rain:0.5; repeat for several",
    )
    group.add_argument(
        "--adapter-strength",
        type=between(0.0, 2.0),
        metavar="STRENGTH",
        help="strength of adapters without their own, from 0 (off) to 2; default: 1",
    )
    group.add_argument(
        "--vae",
        metavar="FILE",
        help="tokenizer, such as infinity_vae_d32reg.pth; crisp: the bundled one that makes crisp "
        "pictures, which are less faithful",
    )
    group.add_argument("--cleaner", metavar="FILE", help="SwinIR, such as general_swinir_v1.ckpt")
    group.add_argument("--text-encoder", metavar="FOLDER", help="local copy of flan-t5-xl")
    group.add_argument("--prompt", metavar="TEXT", help="describes the picture; see --text-encoder")
    group.add_argument(
        "--verify",
        action="store_true",
        help="verify the checksums of the files before loading; files without a checksum are named",
    )


def add_sampling_options(parser: argparse.ArgumentParser, *, seed_of: str | None = None) -> None:
    """Add the options that affect the pixels besides the size.

    Args:
        seed_of: what the seed is for, if it is more than the sampling noise.
    """
    group = parser.add_argument_group("restoration")
    add_setting(group, "detail", metavar="STRENGTH")
    add_setting(group, "fidelity", metavar="LOG_ODDS")
    add_setting(group, "seed", metavar="N", text=None if seed_of is None else f"Seed of {seed_of}.")
    add_setting(group, "overlap", metavar="PIXELS")
    group.add_argument(
        "--tile",
        type=integer(1, None),
        metavar="PIXELS",
        help="side of a tile: 256, 512, 768 or 1024 with the official tokenizer; the released model was trained on 512 "
        "(default: the tile size that the model was trained on)",
    )
    add_setting(group, "color_match")


def add_setting(
    parser: argparse._ActionsContainer,
    name: str,
    *,
    metavar: str | None = None,
    text: str | None = None,
) -> None:
    """Add the option of one setting of `settings.RestoreSettings`, with its range, default and text."""
    setting, default = SETTINGS[name], default_of(name)
    option = f"--{name.replace('_', '-')}"
    text = (text or setting.text).replace("%", "%%")
    if setting.choices:
        parser.add_argument(
            option, choices=setting.choices, help=f"{text} Default: {described_default(name)}."
        )
        return
    assert setting.low is not None and setting.high is not None  # noqa: PT018
    whole = isinstance(default, int)
    kind = (
        integer(int(setting.low), int(setting.high))
        if whole
        else between(setting.low, setting.high)
    )
    parser.add_argument(
        option,
        type=kind,
        metavar=metavar,
        help=f"{text} A {'whole ' if whole else ''}number, {setting.range}; "
        f"default: {described_default(name)}.",
    )


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for device, dtype and speed."""
    group = parser.add_argument_group("speed and memory")
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)"
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="type of the transformer's matrices; auto is bf16 on CUDA devices with native bf16, "
        "fp16 on older ones, else fp32",
    )
    add_setting(group, "tile_batch", metavar="N")


def folder(text: str) -> Path:
    """Return the path of a folder.

    Raises:
        argparse.ArgumentTypeError: for an empty text, such as an unset variable of a shell.
    """
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, got an empty one")
    return Path(text)


def between(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers from `low` to `high`."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:  # also rejects "nan"
            raise argparse.ArgumentTypeError(f"must be between {low:g} and {high:g}, got {text}")
        return value

    parse.__name__ = "number"  # argparse: "invalid number value: 'x'"
    return parse


def above_zero(text: str) -> float:
    """Parse a finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):  # also rejects "nan"
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text}")
    return value


def integer(low: int, high: int | None) -> Callable[[str], int]:
    """Return a parser of whole numbers from `low` to `high`; None means no limit."""

    def parse(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"must be {limits}, got {text}")
        return value

    parse.__name__ = "whole number"
    return parse


def settings_from(
    args: argparse.Namespace, recommended: Mapping[str, Any] | None = None, **given: Any
) -> RestoreSettings:
    """Return the settings of the options; keyword arguments replace them.

    Args:
        recommended: settings recommended by the adapters, for options that were not given.
    """
    options = {name: getattr(args, name) for name in SETTINGS if hasattr(args, name)}
    options = {name: value for name, value in options.items() if value is not None}
    return RestoreSettings(**{**(recommended or {}), **options, **given})
