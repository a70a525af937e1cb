"""One table from several runs of `varestorer evaluate` and of `plain_cnn.py evaluate` on the same pictures.

    python benchmarks/evaluation_table.py new=new.txt "bundled before=old.txt" "plain CNN=cnn.txt"

Each argument is a name and a file with the output of a run, whose last line is a JSON document. Rows: the enlargements
of the first run; the results of each run; the bits of each run's encoder, decoded without the transformer; the
originals, encoded and decoded by its tokenizer. Then the paired differences of the first run's result and every other
row: mean and, in parentheses, standard error. Prints Markdown; the last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from varestorer_core.evaluate import Scores, difference, mean_scores

SAME = ("preset", "scale", "size", "whole", "seed")
COLUMNS = {
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 4),
    "gmsd": ("GMSD (lower is better)", 4),
    "ms_ssim": ("MS-SSIM", 4),
    "gradient_energy": ("gradient energy, of the original's", 3),
}
PARTS = {
    "restored": "{}",
    "tokenizer alone": "{}: encoder alone",
    "original, tokenizer": "originals through {}'s tokenizer",
}


def read_run(argument: str) -> tuple[str, dict]:
    """Return the name and the document of NAME=FILE."""
    name, found, path = argument.partition("=")
    if not found:
        raise SystemExit(f"{argument}: expected NAME=FILE.")
    return name, json.loads(Path(path).read_text().splitlines()[-1])


def collect(runs: dict[str, dict]) -> dict[str, list[Scores]]:
    """Return the scores of every row, picture by picture in the first run's order.

    Raises:
        SystemExit: if the runs did not use the same pictures with the same settings.
    """
    (first_name, first), *_ = runs.items()
    pictures = list(first["pictures"])
    rows: dict[str, list[Scores]] = {}
    for name, run in runs.items():
        wrong = [key for key in SAME if run.get(key) != first.get(key)]
        if wrong or set(run["pictures"]) != set(pictures):
            what = ", ".join(wrong) or "pictures"
            raise SystemExit(f"{name} and {first_name} differ in {what}: they cannot be compared.")
        parts = (
            PARTS if name != first_name else {"bicubic": "bicubic", "lanczos": "Lanczos", **PARTS}
        )
        for part, title in parts.items():
            if part in run["pictures"][pictures[0]]:
                rows[title.format(name)] = [_scores(run["pictures"][p][part]) for p in pictures]
    return rows


def _scores(values: dict[str, float | None]) -> Scores:
    return Scores(**{n: float("inf") if v is None else v for n, v in values.items()})


def _table(head: str, rows: dict[str, list[str]]) -> None:
    print(f"| {head} | " + " | ".join(title for title, _ in COLUMNS.values()) + " |")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE")
    runs = dict(map(read_run, parser.parse_args().runs))
    rows = collect(runs)
    first = next(iter(runs))
    settings = {key: runs[first].get(key) for key in SAME}
    means = {name: mean_scores(scores) for name, scores in rows.items()}
    _table(
        f"`{settings['preset']}`, scale {settings['scale']}, {len(rows[first])} photographs",
        {
            name: [f"{getattr(mean, field):.{digits}f}" for field, (_, digits) in COLUMNS.items()]
            for name, mean in means.items()
        },
    )
    print()
    gains = {
        name: difference(rows[first], scores) for name, scores in rows.items() if name != first
    }
    _table(
        f"{first} minus",
        {
            name: [
                f"{getattr(mean, field):+.{digits}f} ({getattr(error, field):.{digits}f})"
                for field, (_, digits) in COLUMNS.items()
            ]
            for name, (mean, error) in gains.items()
        },
    )
    document = {
        "settings": settings,
        "photographs": len(rows[first]),
        "mean": {name: mean.as_json() for name, mean in means.items()},
        f"{first} minus": {
            name: {"mean": mean.as_json(), "standard_error": error.as_json()}
            for name, (mean, error) in gains.items()
        },
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
