"""Errors of a method in low, middle and high frequencies, and power spectra.

Frequencies are radial, in cycles per pixel: 0 is flat, 0.5 alternates from pixel to pixel along an axis, 0.707 along a
diagonal. Spectra are of the luma (ITU-R BT.601) without its mean, under a Hann window.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import metrics

BANDS = {"low": (0.0, 1 / 16), "middle": (1 / 16, 3 / 16), "high": (3 / 16, math.inf)}
"""(from, to) in cycles per pixel, `to` excluded: structures larger than 16 pixels, down to 5.3 pixels, and finer."""
BINS = 64
"""Number of rings of a radial spectrum between 0 and 0.5 cycles per pixel."""


def band_psnr(picture: Tensor, reference: Tensor) -> dict[str, float]:
    """Return the peak signal-to-noise ratio in dB of the luma in each band.

    The error of a band is the energy of its Fourier coefficients, so the mean squared errors of the bands add up to
    that of the whole picture.

    Args:
        picture, reference: (3, H, W) in [0, 1].
    """
    metrics.check_alike(picture, reference)
    error = metrics.luma(picture.double() - reference.double())[0]
    energy = torch.fft.fft2(error, norm="ortho").abs().square() / error.numel()
    radius = _radius(*error.shape)
    result = {}
    for name, (low, high) in BANDS.items():
        result[name] = metrics.decibels(float(energy[(radius >= low) & (radius < high)].sum()))
    return result


def radial_spectrum(picture: Tensor) -> Tensor:
    """Return the mean power (BINS,) of a picture (3, H, W) in rings of equal width from 0 to 0.5 cycles per pixel."""
    brightness = metrics.luma(picture.double())[0]
    height, width = brightness.shape
    window = torch.outer(_hann(height), _hann(width))
    windowed = (brightness - brightness.mean()) * window
    power = torch.fft.fft2(windowed).abs().square() / window.square().sum()
    radius = _radius(height, width)
    ring = (radius * 2 * BINS).long()
    inside = ring < BINS
    total = torch.zeros(BINS, dtype=torch.float64).index_add_(0, ring[inside], power[inside])
    count = torch.bincount(ring[inside], minlength=BINS)
    return total / count.clamp(min=1)


def _hann(length: int) -> Tensor:
    return (
        torch.hann_window(length, periodic=False, dtype=torch.float64)
        if length > 2
        else torch.ones(length).double()
    )


def _radius(height: int, width: int) -> Tensor:
    rows = torch.fft.fftfreq(height, dtype=torch.float64)
    columns = torch.fft.fftfreq(width, dtype=torch.float64)
    return torch.sqrt(rows[:, None] ** 2 + columns[None] ** 2)
