"""Plots of a benchmark's summaries, without a report."""

import math

import pytest

from varestorer_core.benchmark import Summary, plots


def test_error_bars_and_colours_of_plots(monkeypatch, tmp_path):
    """Error bars lie within the axes, and a method has the same colour in bars and scatter."""
    figures = []
    make = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    pytest.importorskip("matplotlib")
    summaries = [
        Summary("same", {"psnr_y": math.inf, "ssim_y": 1.0}, {"ssim_y": 0.0}),
        Summary("other", {"psnr_y": 25.0, "ssim_y": 0.5}, {"psnr_y": 4.0, "ssim_y": 0.9}),
    ]
    plots.bar_plot(tmp_path / "bars.png", summaries, ["psnr_y", "ssim_y"])
    plots.scatter_plot(tmp_path / "scatter.png", summaries, "psnr_y", "ssim_y")
    low, high = figures[0].axes[0].get_xlim()
    assert low < 21
    assert high > 29
    low, high = figures[0].axes[1].get_xlim()
    assert low < -0.4
    assert high > 1.4
    assert figures[1].axes[0].lines[0].get_color() == "C1"
