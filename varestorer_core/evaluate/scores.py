"""All metrics of one picture, their means over a set, and the standard error of a difference of two means."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

from torch import Tensor

from .. import metrics
from ..benchmark.statistics import standard_error


@dataclass(frozen=True)
class Scores:
    """Metrics of a picture against its original."""

    psnr: float
    """In dB; higher is closer. Infinite for equal pictures."""
    ssim: float
    """At most 1; higher is closer."""
    gmsd: float
    """At least 0; lower is closer."""
    ms_ssim: float
    """At most 1; higher is closer."""
    gradient_energy: float
    """Ratio to the original's; 1 is equally sharp, less is softer."""

    def as_json(self) -> dict[str, float | None]:
        """Return the values by name; None instead of values that are not finite, which JSON cannot hold."""
        return {
            name: value if math.isfinite(value) else None for name, value in asdict(self).items()
        }


def score(picture: Tensor, original: Tensor) -> Scores:
    """Return the scores of a picture (3, H, W) in [0, 1] with sides of at least 11 pixels."""
    x, y = picture.double(), original.double()
    energy, wanted = (metrics.gradient_energy(image).item() for image in (x, y))
    of_flat = 1.0 if energy == 0 else math.inf
    return Scores(
        psnr=metrics.psnr(x, y).item(),
        ssim=metrics.ssim(x, y).item(),
        gmsd=metrics.gmsd(x, y).item(),
        ms_ssim=metrics.ms_ssim(x, y).item(),
        gradient_energy=energy / wanted if wanted else of_flat,
    )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Return the arithmetic mean of every value over at least one picture."""
    return _by_field(lambda values: sum(values) / len(values), scores)


def difference(first: Sequence[Scores], second: Sequence[Scores]) -> tuple[Scores, Scores]:
    """Return the mean of `first - second` over the same pictures, and its standard error.

    The error is that of the mean over paired samples, not of a single picture.
    """
    names = [field.name for field in fields(Scores)]
    pairs = [
        Scores(**{name: getattr(one, name) - getattr(other, name) for name in names})
        for one, other in zip(first, second, strict=True)
    ]
    return mean_scores(pairs), _by_field(_standard_error, pairs)


def _by_field(function: Callable[[list[float]], float], scores: Sequence[Scores]) -> Scores:
    return Scores(
        **{
            field.name: function([getattr(one, field.name) for one in scores])
            for field in fields(Scores)
        }
    )


def _standard_error(values: list[float]) -> float:
    if len(values) < 2 or not all(math.isfinite(value) for value in values):
        return math.nan
    return standard_error(values)
