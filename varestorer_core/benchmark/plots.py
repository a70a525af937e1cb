"""Bar, scatter and frequency plots as PNG files, using matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import VARestorerError
from .frequency import BANDS, BINS
from .measures import MEASURES
from .statistics import Summary

_DPI = 120
_LEAST_POWER = 1e-12
_MARKERS = "osD^vPX*<>"


class PlotsUnavailableError(VARestorerError):
    """matplotlib is not installed."""


def _figure(width: float, height: float) -> Any:
    try:
        canvas = import_module("matplotlib.backends.backend_agg").FigureCanvasAgg
        figure_class = import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise PlotsUnavailableError(
            'Plots need matplotlib. Install it with "pip install matplotlib".'
        ) from error
    figure = figure_class(figsize=(width, height), dpi=_DPI, layout="constrained")
    canvas(figure)
    return figure


def _has(summary: Summary, name: str) -> bool:
    """Return whether a value can be plotted; the PSNR of pictures that equal their references cannot."""
    return math.isfinite(summary.mean.get(name, math.nan))


def bar_plot(path: Path, summaries: Sequence[Summary], names: Sequence[str]) -> None:
    """Write a bar plot of the means of every metric, with standard errors.

    Raises:
        PlotsUnavailableError: without matplotlib, as in the other plots.
    """
    names = [name for name in names if any(_has(s, name) for s in summaries)]
    columns = min(3, max(1, len(names)))
    rows = max(1, math.ceil(len(names) / columns))
    figure = _figure(4.2 * columns, rows * (0.9 + 0.32 * len(summaries)))
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, name in zip(axes, names, strict=False):
        own = [s for s in summaries if _has(s, name)]
        means, errors = [s.mean[name] for s in own], [s.error.get(name, 0.0) for s in own]
        axis.barh(
            [s.method for s in own],
            means,
            xerr=errors,
            color=[f"C{summaries.index(s) % 10}" for s in own],
            error_kw={"elinewidth": 1},
        )
        axis.invert_yaxis()
        axis.set_title(MEASURES[name].heading, fontsize=10)
        low = min(mean - error for mean, error in zip(means, errors, strict=True))
        high = max(mean + error for mean, error in zip(means, errors, strict=True))
        margin = 0.1 * ((high - low) or abs(high) or 1.0)
        # Starting at zero, all bars of PSNR would look alike.
        axis.set_xlim(low - margin if low < 0 else max(0.0, low - margin), high + margin)
        axis.locator_params(axis="x", nbins=5)
        axis.tick_params(labelsize=8)
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    figure.savefig(path)


def scatter_plot(path: Path, summaries: Sequence[Summary], across: str, up: str) -> None:
    """Write a scatter plot of the methods by two metrics, such as distortion and naturalness.

    No file is written if no method has finite values of both.
    """
    if not any(_has(s, across) and _has(s, up) for s in summaries):
        return
    figure = _figure(7.5, 4.5)
    axis = figure.subplots()
    # The index is that of all methods, so that a method has one colour in all plots.
    for index, summary in enumerate(summaries):
        if not (_has(summary, across) and _has(summary, up)):
            continue
        axis.errorbar(
            summary.mean[across],
            summary.mean[up],
            xerr=summary.error.get(across, 0.0),
            yerr=summary.error.get(up, 0.0),
            fmt=_MARKERS[index % len(_MARKERS)],
            color=f"C{index % 10}",
            label=summary.method,
        )
    axis.set_xlabel(MEASURES[across].heading)
    axis.set_ylabel(MEASURES[up].heading)
    axis.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path)


def spectrum_plot(
    path: Path, spectra: Mapping[str, Sequence[float]], reference: Sequence[float]
) -> None:
    """Plot each method's power by frequency in dB relative to the reference's: 0 dB is equally sharp.

    Args:
        spectra: means of `frequency.radial_spectrum` over pictures, by method.
    """
    figure = _figure(7.0, 4.2)
    axis = figure.subplots()
    frequencies = [(ring + 0.5) / (2 * BINS) for ring in range(BINS)]
    for name, power in spectra.items():
        decibels = [
            10 * math.log10(max(one, _LEAST_POWER) / max(other, _LEAST_POWER))
            for one, other in zip(power, reference, strict=True)
        ]
        # The innermost ring mostly shows the shape of the window.
        axis.plot(frequencies[1:], decibels[1:], label=name)
    axis.axhline(0, color="black", linewidth=0.8)
    for bound, _ in (BANDS["middle"], BANDS["high"]):
        axis.axvline(bound, color="grey", linewidth=0.8, linestyle=":")
    axis.set_ylim(bottom=max(-40.0, axis.get_ylim()[0]))
    axis.set_xlabel("cycles per pixel (dotted: bounds of low, middle and high)")
    axis.set_ylabel("power relative to the reference, dB")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.savefig(path)
