"""Results of an ablation as means with their spread, and as a table in Markdown.

With several seeds, the spread is the standard deviation over them, which shows the variation due to training. With one
seed, it is the standard error over the photographs, by bootstrap. Differences to the full method are paired by
photograph, so that common variation cancels.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..evaluate import Scores

_RESAMPLES = 2000
_BASELINE = "full"
_COLUMNS = (
    ("psnr", "PSNR, dB", 2),
    ("ssim", "SSIM", 4),
    ("gmsd", "GMSD (lower is better)", 4),
    ("ms_ssim", "MS-SSIM", 4),
    ("gradient_energy", "gradient energy, of the original's", 3),
)

Results = Mapping[str, Mapping[int, Sequence[Scores]]]
"""Scores of the photographs, by row and seed."""


def summary(results: Results, *, references: Sequence[str]) -> dict[str, Any]:
    """Return means, spreads and differences to the full method, as plain values."""
    rows: dict[str, Any] = {}
    for name, by_seed in results.items():
        rows[name] = {
            "seeds": [] if name in references else sorted(by_seed),
            "scores": _figures(by_seed),
        }
        if name != _BASELINE and name not in references:
            rows[name]["minus_full"] = _figures(by_seed, results[_BASELINE])
    seeds = rows[_BASELINE]["seeds"]
    return {"spread": "seeds" if len(seeds) > 1 else "photographs", "rows": rows}


def ablation_markdown(document: Mapping[str, Any]) -> str:
    """Return the means and the differences as two tables in Markdown."""
    plan, rows = document["plan"], document["rows"]
    seeds = rows[_BASELINE]["seeds"]
    over = (
        f"the standard deviation over the seeds {', '.join(map(str, seeds))}"
        if document["spread"] == "seeds"
        else "the standard error over the photographs (bootstrap)"
    )
    head = ["", *(title for _, title, _ in _COLUMNS)]
    means = [[name, *_cells(row["scores"])] for name, row in rows.items()]
    gains = [
        [f"{name} minus full", *_cells(row["minus_full"], sign="+")]
        for name, row in rows.items()
        if "minus_full" in row
    ]
    return "\n".join(
        [
            f"{len(plan['photographs'])} photographs of {plan['size']} x {plan['size']}, preset "
            f"{plan['preset']}, scale {plan['scale']}, seed 0; {plan['steps']} steps of "
            f"{plan['student']['batch']} pictures. After the means: {over}.",
            "",
            *_table([head, *means]),
            "",
            *_table([head, *gains]),
            "",
        ]
    )


def _figures(
    by_seed: Mapping[int, Sequence[Scores]], minus: Mapping[int, Sequence[Scores]] | None = None
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for field in fields(Scores):
        values = [
            [getattr(scores, field.name) for scores in by_seed[seed]] for seed in sorted(by_seed)
        ]
        if minus is not None:
            others = [
                [getattr(scores, field.name) for scores in minus[seed]] for seed in sorted(minus)
            ]
            values = [
                [a - b for a, b in zip(one, other, strict=True)]
                for one, other in zip(values, others, strict=True)
            ]
        figures[field.name] = {"mean": _finite(_mean(values)), "spread": _finite(_spread(values))}
    return figures


def _mean(values: Sequence[Sequence[float]]) -> float:
    return statistics.fmean(statistics.fmean(of_seed) for of_seed in values)


def _spread(values: Sequence[Sequence[float]]) -> float:
    """Return the spread of the mean: over the seeds, or over the photographs if there is one seed."""
    if len(values) > 1:
        return statistics.stdev(statistics.fmean(of_seed) for of_seed in values)
    draw = random.Random(0)
    only = values[0]
    if len(only) < 2:
        return math.nan
    means = [statistics.fmean(draw.choices(only, k=len(only))) for _ in range(_RESAMPLES)]
    return statistics.stdev(means) if all(map(math.isfinite, means)) else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cells(figures: Mapping[str, Any], sign: str = "") -> list[str]:
    cells = []
    for key, _, digits in _COLUMNS:
        mean, spread = figures[key]["mean"], figures[key]["spread"]
        text = "-" if mean is None else f"{mean:{sign}.{digits}f}"
        cells.append(text if spread is None else f"{text} ({spread:.{digits}f})")
    return cells


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return [lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]]
