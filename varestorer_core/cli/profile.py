"""`varestorer profile`: parameters and computational cost of a model."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import UsageError
from .models import adapters_of, load_models, model_files, say_if_bundled
from .options import add_device_options, add_model_options, integer

if TYPE_CHECKING:
    from ..config import TokenizerConfig, TransformerConfig
    from ..evaluate.cost import Cost, Parameters

_OFFICIAL = "official"
_REPEATS = 3
_NOT_PROFILED = ("cleaner", "text_encoder", "prompt", "tile_batch")
_TIMED = ("device", "dtype", "repeats", "verify")


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    from ..schedule import PIXEL_CLASSES

    parser = subparsers.add_parser(
        "profile",
        help="measure the cost of a model",
        description="Print parameters, GFLOPs and multiply-adds of one tile by stage, seconds and peak "
        "memory, a markdown row in the paper's form, and as the last line one JSON document.",
    )
    parser.add_argument(
        "--count-only",
        action="store_true",
        help="count from shapes alone, without running: no seconds, no memory",
    )
    parser.add_argument(
        "--official",
        action="store_true",
        help="count the released model from its shapes, without its files; implies --count-only",
    )
    parser.add_argument(
        "--pixel-class",
        choices=list(PIXEL_CLASSES),
        help="tile to count, such as 0.25M: 512 x 512 pixels for the official tokenizer (default: the model's own)",
    )
    parser.add_argument(
        "--multi-step",
        action="store_true",
        help="predict scale by scale with a key/value cache, like the teacher, instead of in one pass",
    )
    parser.add_argument(
        "--repeats",
        type=integer(1, 1000),
        metavar="N",
        help=f"timed runs of every stage; the median is reported (default: {_REPEATS})",
    )
    add_model_options(parser)
    add_device_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Count, measure and print."""
    from ..config import INFINITY_VAE_D32, VARESTORER_2B
    from ..evaluate.cost import count_flops, count_parameters, measure

    _check_effects(args)
    memory: int | None = None
    if args.official:
        if args.model or args.vae or args.adapter:
            raise UsageError(
                "--official counts the released shapes: leave out --model, --vae and --adapter."
            )
        name, tokenizer, transformer = _OFFICIAL, INFINITY_VAE_D32, VARESTORER_2B
    else:
        name, tokenizer, transformer = _shapes(args)
    schedule = _schedule(args, transformer)
    parameters = count_parameters(tokenizer, transformer)
    parameters = replace(parameters, adapters=parameters.adapters + _adapter_parameters(args))
    if args.count_only or args.official:
        costs = count_flops(tokenizer, transformer, schedule, steps=args.multi_step)
    else:
        costs, memory = measure(
            _loaded(args, schedule), steps=args.multi_step, repeats=args.repeats or _REPEATS
        )
    tile = schedule.pixel_size(tokenizer.patch_size)[0]
    tokens = schedule.num_tokens if args.multi_step else schedule.num_tokens_long
    _print(name, parameters, costs, memory, tile, tokens)
    print(json.dumps(_document(args, name, parameters, costs, memory, tile, tokens)))
    return 0


def _check_effects(args: argparse.Namespace) -> None:
    """Raise an error for options without effect."""
    usual = {"device": "auto", "dtype": "auto", "verify": False}
    given = [
        name
        for name in (*_NOT_PROFILED, *_TIMED)
        if getattr(args, name) not in (None, usual.get(name))
    ]
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if name in _NOT_PROFILED:
            raise UsageError(
                f"{option} has no effect: one tile is profiled, with transformer and tokenizer alone. Leave it out."
            )
        if args.count_only or args.official:
            raise UsageError(
                f"{option} has no effect with {'--official' if args.official else '--count-only'}, which runs nothing. "
                "Leave it out."
            )


def _shapes(args: argparse.Namespace) -> tuple[str, TokenizerConfig, TransformerConfig]:
    """Return the name and the shapes of the files."""
    from pathlib import Path

    from ..assets import TINY_TRANSFORMER, asset_path, bundled_vae
    from ..checkpoint import identify, read_checkpoint
    from ..checkpoint.identify import describe_kind
    from ..config import TokenizerConfig, TransformerConfig
    from ..errors import CheckpointError

    files = model_files(args)
    say_if_bundled(files)
    found: list[Any] = []
    vae = bundled_vae(files.vae) or str(files.vae)
    paths = (files.model or asset_path(TINY_TRANSFORMER), vae)
    kinds = {"transformer": TransformerConfig, "tokenizer": TokenizerConfig}
    for path, (kind, cls) in zip(map(Path, paths), kinds.items(), strict=True):
        info = identify(*read_checkpoint(path, kind=kind))
        if not isinstance(info.config, cls):
            raise CheckpointError(
                f"{path.name} is {info.description}, expected {describe_kind(kind)}."
            )
        found.append(info.config)
    transformer, tokenizer = found
    return Path(paths[0]).stem, tokenizer, transformer


def _adapter_parameters(args: argparse.Namespace) -> int:
    """Return the number of parameters of the given adapters, each a file of its own or inside a model's."""
    from ..checkpoint import identify, read_checkpoint
    from ..errors import CheckpointError
    from ..lora.spellings import our_spelling

    total = 0
    for path, _ in adapters_of(args):
        tensors, metadata = read_checkpoint(path)
        info = identify(our_spelling(tensors, metadata), metadata)
        if not info.counts.lora:
            raise CheckpointError(f"{path} is {info.description}, expected an adapter.")
        total += info.counts.lora
    return total


def _schedule(args: argparse.Namespace, transformer: TransformerConfig) -> Any:
    from ..schedule import get_schedule

    return get_schedule(1.0, args.pixel_class or transformer.pixel_class)


def _loaded(args: argparse.Namespace, schedule: Any) -> Any:
    """Return the loaded networks, for tiles of the schedule."""
    from .device import device_and_dtype

    device, dtype = device_and_dtype(args.device, args.dtype)
    stages: Any = load_models(model_files(args), device=device, dtype=dtype).stages
    transformer = stages.transformer
    transformer.config = replace(transformer.config, pixel_class=schedule.pixel_class)
    return stages


def _print(
    name: str,
    parameters: Parameters,
    costs: list[Cost],
    memory: int | None,
    tile: int,
    tokens: int,
) -> None:
    trainable = parameters.adapters or parameters.transformer
    kind = "the adapters" if parameters.adapters else "no adapters: the whole transformer"
    print(f"{name}: one tile of {tile} x {tile} pixels, {tokens} tokens")
    print(f"parameters {parameters.total / 1e6:.2f} M, trainable {trainable / 1e6:.2f} M ({kind})")
    print(f"{'stage':12} {'GFLOP':>12} {'G multiply-adds':>16} {'seconds':>9}")
    for cost in costs:
        seconds = "" if cost.seconds is None else f"{cost.seconds:9.3f}"
        print(
            f"{cost.stage:12} {cost.flops / 1e9:12.2f} {cost.multiply_adds / 1e9:16.2f} {seconds}"
        )
    total = sum(cost.flops for cost in costs) / 1e9
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    seconds = f"{sum(known):9.3f}" if known else ""
    print(f"{'all':12} {total:12.2f} {total / 2:16.2f} {seconds}")
    if memory is not None:
        print(f"peak memory {memory / 2**30:.2f} GiB")
    print("\n| method | trainable parameters, M | seconds | GFLOPs |\n| --- | --- | --- | --- |")
    print(f"| {name} | {trainable / 1e6:.1f} | {seconds.strip()} | {total:.0f} |")
    sys.stdout.flush()


def _document(
    args: argparse.Namespace,
    name: str,
    parameters: Parameters,
    costs: list[Cost],
    memory: int | None,
    tile: int,
    tokens: int,
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": name,
        "tile": tile,
        "tokens": tokens,
        "multi_step": args.multi_step,
        "parameters": {**asdict(parameters), "total": parameters.total},
        "stages": {
            cost.stage: {
                "flop": cost.flops,
                "multiply_adds": cost.multiply_adds,
                "seconds": cost.seconds,
            }
            for cost in costs
        },
        "peak_memory_bytes": memory,
    }
