"""`varestorer evaluate`: degrade photographs, restore them, and measure against the originals."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ImageError, VARestorerError
from ..regular import real_path
from ..wording import LONGEST_SENTENCE, shown
from . import UsageError
from .degrade import PRESETS
from .evaluate_report import RESTORED, Measured, document, print_table, write_sheet
from .finding import collect_pictures
from .jobs import check_writable
from .models import load_models, model_files, recommended_settings, say_if_bundled
from .options import (
    add_device_options,
    add_model_options,
    add_sampling_options,
    integer,
    settings_from,
)
from .restore import restore_rgb

if TYPE_CHECKING:
    from ..evaluate import Timed
    from ..restorer import Restorer
    from ..settings import RestoreSettings

_ALONE = "tokenizer alone"
_CEILING = "original, tokenizer"


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a model on photographs",
        description="Degrade photographs with a preset, restore them, and compare bicubic and "
        "Lanczos interpolation and the model with the originals. Prints the means "
        "over the photographs, and as the last line one JSON document with every "
        "value.",
    )
    parser.add_argument(
        "input", nargs="*", help="photograph, or folder of photographs (not recursive)"
    )
    parser.add_argument(
        "--scikit-image",
        action="store_true",
        help="use the ten free photographs of scikit-image, if it is installed",
    )
    parser.add_argument(
        "-o",
        "--output",
        default="evaluation.png",
        metavar="FILE",
        help="contact sheet: LQ, bicubic, restored, original (default: %(default)s)",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="x4",
        help="kind of degradation (default: %(default)s)",
    )
    parser.add_argument(
        "--scale",
        type=integer(1, 8),
        default=4,
        metavar="S",
        help="the LQ pictures' sides are 1/S of the originals' (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=integer(32, 4096),
        default=256,
        metavar="PIXELS",
        help="photographs are reduced and cropped to squares of this side (default: %(default)s)",
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help=(
            "use photographs whole if their shorter side is already --size; only the others are "
            "cropped"
        ),
    )
    parser.add_argument(
        "--rows",
        type=integer(1, None),
        default=12,
        metavar="N",
        help=(
            "maximum number of photographs in the contact sheet, evenly selected (default: "
            "%(default)s)"
        ),
    )
    parser.add_argument(
        "--multi-step",
        action="store_true",
        help="also restore scale by scale with the same weights, and compare quality and time",
    )
    add_model_options(parser)
    add_sampling_options(parser, seed_of="the degradations and of the sampling noise")
    add_device_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate every photograph; return 1 if one of them failed."""
    from .device import device_and_dtype

    started = time.perf_counter()
    if args.multi_step and (args.detail or args.fidelity):
        raise UsageError(
            "--multi-step uses the most likely bits: leave out --detail and --fidelity."
        )
    if args.size % args.scale:
        raise UsageError(f"--size {args.size} must be a multiple of --scale {args.scale}.")
    files = model_files(args)
    sources = _sources(args)
    sheet = _sheet_path(args.output, sources)
    device, dtype = device_and_dtype(args.device, args.dtype)
    check_writable(sheet.parent)
    given: dict[str, float] = {"upscale": float(args.scale)}
    if args.multi_step:
        given |= {"detail": 0.0, "fidelity": 0.0}
    settings = settings_from(args, recommended_settings(files), **given)
    args.seed = settings.seed  # also of the degradations
    say_if_bundled(files)
    restorer = load_models(files, device=device, dtype=dtype)
    ways, watches = _ways(restorer) if args.multi_step else ({RESTORED: restorer}, {})
    results = []
    for index, source in enumerate(sources):
        try:
            results.append(_measure(source, index, args, ways, settings))
        except VARestorerError as error:
            if args.debug:
                raise
            text = shown(f"{source.name} left out: {error}", LONGEST_SENTENCE)
            print(f"varestorer: {text}", file=sys.stderr)
    if not results:
        raise VARestorerError("None of the photographs could be evaluated.")
    write_sheet(sheet, results, args.rows)
    print_table(results, args)
    speed = _speed(watches)
    for name, (tile, ratio) in speed.items():
        print(
            f"{name:20} {tile:8.3f} s per tile in the transformer, {ratio:.2f} times the one pass"
        )
    print(f"wrote {sheet}")
    seconds = time.perf_counter() - started
    print(json.dumps(document(results, args, files, settings, seconds, speed)))
    return 1 if len(results) < len(sources) else 0


def _sources(args: argparse.Namespace) -> list[Path]:
    if bool(args.input) == args.scikit_image:
        raise UsageError("Specify either photographs (files or folders) or --scikit-image.")
    if args.scikit_image:
        from ..evaluate import scikit_image_photographs

        sources, missing = scikit_image_photographs()
        if missing:
            print(
                f"varestorer: this version of scikit-image does not contain {', '.join(missing)}; using "
                f"the other {len(sources)}",
                file=sys.stderr,
            )
        return sources
    sources, skipped = collect_pictures(args.input)
    if not sources:
        raise UsageError(f"There are no pictures in {', '.join(args.input)}.")
    if skipped:
        print(f"varestorer: {skipped} other files skipped", file=sys.stderr)
    return sources


def _sheet_path(name: str, sources: list[Path]) -> Path:
    from ..pictures import check_target

    path = Path(name)
    try:
        check_target(path, (1, 1))
    except ImageError as error:
        raise UsageError(str(error)) from error
    if path.is_dir() or real_path(path) in {real_path(source) for source in sources}:
        raise UsageError(f"{path} is a folder or one of the inputs. Choose another -o.")
    return path


def _ways(restorer: Restorer) -> tuple[dict[str, Restorer], dict[str, Timed]]:
    """Return a restorer for each way to run the transformer, and the timers of these."""
    from ..evaluate import CachedSteps, Pass, RefedSteps, Timed
    from ..loaded import LoadedStages
    from ..restorer import Restorer

    loaded = restorer.stages
    assert isinstance(loaded, LoadedStages)
    kinds = {RESTORED: Pass, "multi-step, cached": CachedSteps, "multi-step, refed": RefedSteps}
    watches = {name: Timed(kind(loaded.transformer)) for name, kind in kinds.items()}
    ways = {}
    for name, watch in watches.items():
        transformer: Any = watch  # called like the transformer
        ways[name] = Restorer(replace(loaded, transformer=transformer))
    return ways, watches


def _speed(watches: dict[str, Timed]) -> dict[str, tuple[float, float]]:
    """Return the transformer's seconds per tile, and their ratio to those of the one pass."""
    tiles = {name: watch.seconds_per_tile for name, watch in watches.items()}
    return {name: (tile, tile / tiles[RESTORED]) for name, tile in tiles.items()}


def _measure(
    source: Path,
    index: int,
    args: argparse.Namespace,
    ways: dict[str, Restorer],
    settings: RestoreSettings,
) -> Measured:
    """Degrade, enlarge and restore one photograph, and compare."""
    from ..evaluate import make_pair, score
    from ..resize import enlarge_bicubic, resize_lanczos

    pair = make_pair(
        source,
        index,
        preset=args.preset,
        scale=args.scale,
        size=args.size,
        seed=args.seed,
        whole=args.whole,
    )
    original, lq = pair.original, pair.lq
    size = (original.shape[-2], original.shape[-1])
    pictures = {"bicubic": enlarge_bicubic(lq, size), "lanczos": resize_lanczos(lq, size)}
    for name, restorer in ways.items():
        pictures[name] = restore_rgb(lq, restorer, settings, source.name)
    restorer = ways[RESTORED]
    pictures[_ALONE] = restorer.reconstruct(lq, settings)
    pictures[_CEILING] = restorer.reconstruct(
        original, settings, clean=False, upscale=1.0, color_match="none"
    )
    scores = {name: score(picture, original) for name, picture in pictures.items()}
    pixels = lq.repeat_interleave(args.scale, dim=1).repeat_interleave(args.scale, dim=2)
    panels = [(f"{source.stem}: LQ", pixels)]
    panels += [
        (f"{name}  {scores[name].psnr:.1f} dB  GMSD {scores[name].gmsd:.3f}", pictures[name])
        for name in ("bicubic", *ways)
    ]
    return Measured(source.name, scores, [*panels, ("original", original)])
