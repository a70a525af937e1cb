"""Means over pictures, their standard errors, and paired differences of methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Summary:
    """One row of the table."""

    method: str
    mean: dict[str, float]
    """Means by metric, without metrics that some picture lacks."""
    error: dict[str, float] = field(default_factory=dict)
    """Standard errors of the means, of at least two pictures."""
    count: int = 0
    """Pictures."""
    of_paper: bool = False
    """Whether the values are from the paper, on its own pictures."""


def summarise(method: str, rows: Sequence[Values], names: Sequence[str]) -> Summary:
    """Return the means of a method over its pictures.

    A metric needs a finite value for every picture: means over different pictures cannot be compared.
    """
    mean, error = {}, {}
    for name in names:
        values = [row.get(name) for row in rows]
        finite = [v for v in values if v is not None and math.isfinite(v)]
        if finite and len(finite) == len(values):
            mean[name] = fmean(finite)
            if len(finite) > 1:
                error[name] = standard_error(finite)
    return Summary(method, mean, error, len(rows))


def paired(
    rows: Sequence[Values], others: Sequence[Values], names: Sequence[str], method: str
) -> Summary:
    """Return the means of `rows - others` over the same pictures in the same order, and their standard errors."""
    differences = [
        {name: _minus(one.get(name), other.get(name)) for name in names}
        for one, other in zip(rows, others, strict=True)
    ]
    return summarise(method, differences, names)


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of at least two values."""
    return stdev(values) / math.sqrt(len(values))


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
