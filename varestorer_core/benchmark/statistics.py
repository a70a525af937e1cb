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

    A metric needs a value for every picture: means over different pictures cannot be compared. The PSNR of a picture
    that equals its reference is infinite, and so is a mean with such a picture, which has no standard error.
    """
    mean, error = {}, {}
    for name in names:
        values = [v for row in rows if (v := row.get(name)) is not None]
        if not values or len(values) < len(rows) or {math.inf, -math.inf} <= set(values):
            continue
        mean[name] = fmean(values)
        if len(values) > 1 and math.isfinite(mean[name]):
            error[name] = standard_error(values)
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
    if one is None or other is None:
        return None
    return 0.0 if one == other else one - other  # infinity minus infinity is NaN


def json_values(values: Values) -> dict[str, float | str | None]:
    """Return values as JSON can hold them: "inf" and "-inf" for infinite ones, which `float` reads."""
    return {
        name: value if value is None or math.isfinite(value) else repr(value)
        for name, value in values.items()
    }
