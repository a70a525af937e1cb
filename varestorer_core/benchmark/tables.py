"""Tables of the results as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from .measures import HIGHER, LOWER, MEASURES, Measure
from .scoring import Row
from .statistics import Summary, json_values

_LATEX_ARROWS = {HIGHER: r" $\uparrow$", LOWER: r" $\downarrow$"}
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}"}
    | {"|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}"}
)


def per_image_csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return one line per result, with full precision; cells without a value are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "reference", "file", *names])
    for row in rows:
        values = (row.values.get(name) for name in names)
        writer.writerow(
            [row.method, row.key, row.file, *("" if v is None else repr(v) for v in values)]
        )
    return text.getvalue()


def ranks(summaries: Sequence[Summary], names: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return 1 for the best and 2 for the second of every metric, by (method, metric); equal values share a rank.

    The paper's rows are excluded, because they are of other pictures, and so is LQ, which is not a result.
    """
    found = {}
    for name in names:
        measure = MEASURES[name]
        own = [s for s in summaries if name in s.mean and not s.of_paper and s.method != "LQ"]
        rounded = {s.method: round(measure.rank(s.mean[name]), measure.digits) for s in own}
        for place, value in enumerate(sorted(set(rounded.values()))[:2], start=1):
            found |= {(method, name): place for method, other in rounded.items() if other == value}
    return found


def markdown_table(
    summaries: Sequence[Summary], names: Sequence[str], *, differences: bool = False
) -> str:
    """Return a table with the best value in bold and the second in italics, standard errors in parentheses.

    Args:
        differences: whether the rows are differences of two methods, which are signed and not marked.
    """
    places = {} if differences else ranks(summaries, names)
    head = [MEASURES[n].heading for n in names]
    lines = [_line(["method", *head]), _line(["---"] * (len(names) + 1))]
    for summary in summaries:
        cells = []
        for name in names:
            cell = _cell(summary, MEASURES[name], signed=differences)
            mark = {1: "**", 2: "*"}.get(places.get((summary.method, name), 0), "")
            cells.append(f"{mark}{cell}{mark}" if cell else "")
        lines.append(_line([summary.method.replace("|", r"\|"), *cells]))
    return "\n".join(lines) + "\n"


def latex_table(summaries: Sequence[Summary], names: Sequence[str]) -> str:
    """Return a `tabular` (package booktabs) with the best value in bold and the second underlined."""
    places = ranks(summaries, names)
    head = [
        f"{MEASURES[n].title.translate(_LATEX)}{_LATEX_ARROWS.get(MEASURES[n].better, '')}"
        for n in names
    ]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["Method", *head]) + r" \\",
        r"\midrule",
    ]
    ruled = False
    for summary in summaries:
        if summary.of_paper and not ruled:
            lines.append(r"\midrule")
            ruled = True
        cells = []
        for name in names:
            value = summary.mean.get(name)
            text = "--" if value is None else f"{value:.{MEASURES[name].digits}f}"
            text = text.replace("inf", r"$\infty$")
            command = {1: r"\textbf", 2: r"\underline"}.get(places.get((summary.method, name), 0))
            cells.append(f"{command}{{{text}}}" if command else text)
        lines.append(" & ".join([summary.method.translate(_LATEX), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def summary_json(summary: Summary) -> dict[str, Any]:
    """Return a row of the table as plain values."""
    return {
        "method": summary.method,
        "pictures": summary.count,
        "of_paper": summary.of_paper,
        "mean": json_values(summary.mean),
        "standard_error": summary.error,
    }


def _cell(summary: Summary, measure: Measure, *, signed: bool) -> str:
    value = summary.mean.get(measure.name)
    if value is None:
        return ""
    text = f"{value:{'+' if signed else ''}.{measure.digits}f}"
    error = summary.error.get(measure.name)
    return text if error is None else f"{text} ({error:.{measure.digits}f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
