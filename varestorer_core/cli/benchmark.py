"""`varestorer benchmark`: compare methods by their results for the same pictures."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VARestorerError
from ..regular import real_path
from ..wording import LONGEST_SENTENCE, shown
from . import UsageError
from .device import device_and_dtype
from .jobs import check_writable
from .options import integer

if TYPE_CHECKING:
    from ..benchmark.iqa import Iqa

_JOURNAL = "scores.jsonl"
_EPILOG = """\
A result belongs to the reference with the same name, alone or followed by _, -, . or a space and a
suffix: 0801.png and 0801_x4_out.png belong to 0801.png, and so does 0801x4.png. Suffixes such as
_HR or _GT of references and _LR4 or _LQ of the others are ignored. Files without a counterpart are
listed.

  varestorer benchmark --reference HQ --lq LQ bicubic=out/bicubic ours=out/ours -o report

writes per_image.csv, benchmark.json, table.md, table.tex, bars.png, scatter.png, spectra.png and
index.html to the folder report. Means are over the references that every method has a result for.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "benchmark",
        help="compare the results of methods",
        description="Compare folders of results of any number of methods with a folder of "
        "references, and write tables, plots and a page. An interrupted run continues.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "methods",
        nargs="+",
        metavar="[NAME=]FOLDER",
        help="results of a method; its name is that of the folder by default",
    )
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="DIR", help="the original pictures"
    )
    parser.add_argument(
        "--lq",
        type=Path,
        metavar="DIR",
        help="the degraded pictures: a row of the table (enlarged bicubically), and shown in the page",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("benchmark"), metavar="DIR",
        help="folder of the report (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--measures",
        metavar="NAMES",
        help="comma-separated; those of pyiqa are lpips, dists, maniqa, musiq, clipiqa, liqe, qalign and "
        "fid (default: the built-in ones, and pyiqa's if it is installed)",
    )
    parser.add_argument(
        "--crop",
        type=integer(0, 256),
        default=0,
        metavar="PIXELS",
        help="pixels to remove at every side of results and references first (default: %(default)s)",
    )
    parser.add_argument(
        "--against",
        metavar="NAME",
        help="method to compare with all others in paired differences (default: the last one)",
    )
    parser.add_argument(
        "--paper",
        metavar="DATASET",
        help="add the paper's own rows for DIV2K-Val, DrealSR or RealSR, marked as such",
    )
    parser.add_argument(
        "--page-pictures",
        type=integer(0, None),
        default=12,
        metavar="N",
        help="maximum number of pictures in the page, evenly selected (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of pyiqa's weights (default: its cache)"
    )
    parser.add_argument(
        "--download", action="store_true", help="let pyiqa download missing weights"
    )
    parser.add_argument(
        "--device", help="device of pyiqa's networks: cpu, cuda, cuda:N or mps (default: cpu)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compute the metrics and write the report; return 1 if a result could not be measured."""
    from tqdm import tqdm

    from ..benchmark import MEASURES, Scorer, pair_folders, score_all

    methods = _methods(args.methods)
    _check_against(args, methods)
    names = _names(args.measures)
    device = _device(args, names)
    paper = _paper(args.paper)
    pairing = pair_folders(args.reference, methods, args.lq)
    check_writable(args.output)
    _check_output(args.output, [args.reference, *methods.values(), args.lq])
    for sentence in pairing.left_out:
        print(f"varestorer: {shown(sentence, LONGEST_SENTENCE)}", file=sys.stderr)
    if not pairing.common:
        raise VARestorerError("There is no reference that every method has a result for.")
    iqa = _iqa(args, names, device)
    missing = {} if iqa is None else iqa.missing
    for name, reason in missing.items():
        print(f"varestorer: {MEASURES[name].title} is left empty: {reason}", file=sys.stderr)
    single = [n for n in names if not MEASURES[n].of_set and n not in missing]
    with tqdm(desc="benchmark", unit="picture") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        scorer = Scorer(single, args.crop, iqa)
        outcome = score_all(pairing, scorer, args.output / _JOURNAL, show)
    for sentence in outcome.problems:
        print(f"varestorer: {shown(sentence, LONGEST_SENTENCE)}", file=sys.stderr)
    from .benchmark_report import BenchmarkReport

    report = BenchmarkReport(args, pairing, outcome, names, missing, paper)
    report.add_sets(iqa, [n for n in names if MEASURES[n].of_set and n not in missing])
    for path in report.write():
        print(f"wrote {path}")
    print(json.dumps(report.document()))
    return 1 if outcome.problems else 0


def _methods(given: list[str]) -> dict[str, Path]:
    methods: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = real_path(text).name, text
        if not name or name in methods or name == "LQ":
            raise UsageError(
                f"{text}: every method needs a unique name other than LQ. Specify it as NAME=FOLDER."
            )
        methods[name] = Path(folder)
    return methods


def _check_against(args: argparse.Namespace, methods: dict[str, Path]) -> None:
    if args.against is not None and args.against not in methods:
        raise UsageError(f"--against must be one of {', '.join(methods)}, got {args.against}.")


def _names(given: str | None) -> list[str]:
    """Return the metrics to list."""
    from ..benchmark.measures import BUILT_IN, MEASURES, PYIQA

    if given is None:
        more = importlib.util.find_spec("pyiqa") is not None
        return [*BUILT_IN, *(measure.name for measure in PYIQA if more)]
    names = [name.strip().lower() for name in given.split(",") if name.strip()]
    unknown = [name for name in names if name not in MEASURES]
    if unknown or not names:
        raise UsageError(
            f"--measures must be among {', '.join(MEASURES)}, got {', '.join(unknown) or 'none'}."
        )
    return list(dict.fromkeys(names))


def _paper(dataset: str | None) -> list[Any]:
    from ..benchmark import paper_rows
    from ..errors import SettingError

    if dataset is None:
        return []
    try:
        return paper_rows(dataset)
    except SettingError as error:
        raise UsageError(str(error)) from error


def _device(args: argparse.Namespace, names: list[str]) -> str:
    """Return the device of pyiqa's metrics.

    Raises:
        UsageError: for a device or folder that does not exist, or an option without effect.
    """
    from ..benchmark.measures import BUILT_IN

    given = {"--device": args.device, "--weights": args.weights, "--download": args.download}
    named = [option for option, value in given.items() if value]
    if named and all(name in BUILT_IN for name in names):
        reason = "" if args.measures else ", and pyiqa is not installed"
        raise UsageError(
            f"{named[0]} has an effect only on metrics of pyiqa, such as --measures lpips{reason}. Leave it out."
        )
    if args.weights is not None and not args.weights.is_dir():
        raise UsageError(f"--weights {args.weights}: no such folder.")
    return "cpu" if args.device is None else str(device_and_dtype(args.device, "fp32")[0])


def _iqa(args: argparse.Namespace, names: list[str], device: str) -> Iqa | None:
    from ..benchmark.iqa import Iqa
    from ..benchmark.measures import BUILT_IN

    wanted = [name for name in names if name not in BUILT_IN]
    if not wanted:
        return None
    iqa = Iqa(weights=args.weights, download=args.download, device=device)
    iqa.available(wanted)
    return iqa


def _check_output(output: Path, inputs: list[Path | None]) -> None:
    if real_path(output) in {real_path(path) for path in inputs if path is not None}:
        raise UsageError(f"{output} is one of the folders of pictures. Choose another -o.")
