"""Blurring with a random kernel, and the convolution it uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from . import kernels
from .steps import Range, Sizes, draw

Shape = Literal["gaussian", "generalised", "plateau"]


@dataclass(frozen=True)
class Blur:
    """A bell-shaped kernel."""

    sigma: Range
    """Standard deviation in pixels; an anisotropic kernel draws one for each axis."""
    isotropic: float = 0.5
    """Probability that both axes have the same standard deviation."""
    shapes: tuple[tuple[float, Shape], ...] = ((1.0, "gaussian"),)
    """Pairs (probability, shape)."""
    beta_generalised: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    size: tuple[int, int] = (41, 41)
    """Smallest and largest window, both odd."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the blurred image."""
        size = _odd(self.size, generator)
        first, second = draw(self.sigma, generator), draw(self.sigma, generator)
        angle = draw((0.0, math.pi), generator)
        if generator.random() < self.isotropic:
            second = first
        weights = [weight for weight, _ in self.shapes]
        _, shape = self.shapes[int(generator.choice(len(weights), p=weights))]
        sigma = (first, second)
        if shape == "gaussian":
            kernel = kernels.gaussian(size, sigma, angle)
        elif shape == "generalised":
            beta = draw(self.beta_generalised, generator)
            kernel = kernels.generalised_gaussian(size, sigma, angle, beta=beta)
        else:
            beta = draw(self.beta_plateau, generator)
            kernel = kernels.plateau(size, sigma, angle, beta=beta)
        return convolve(image, kernel)


@dataclass(frozen=True)
class SincFilter:
    """A sharp low-pass: the ringing of over-sharpened and over-compressed pictures."""

    cutoff: Range
    """In radians per pixel; pi passes nearly everything."""
    size: tuple[int, int] = (7, 21)
    """Smallest and largest window, both odd."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the filtered image; it may overshoot [0, 1]."""
        size = _odd(self.size, generator)
        return convolve(image, kernels.sinc(size, draw(self.cutoff, generator)))


def convolve(image: Tensor, kernel: kernels.Kernel) -> Tensor:
    """Convolve an image (C, H, W) of any size with a kernel with odd sides; edges are reflected.

    Uses the Fourier transform: a 41 x 41 window would cost 1681 multiplications per pixel.
    """
    height, width = kernel.shape[0] // 2, kernel.shape[1] // 2
    result = torch.empty_like(image, dtype=torch.float32)
    # One channel at a time, so that only one spectrum is in memory.
    for channel, plane in zip(result, image, strict=True):
        padded = np.pad(plane.float().numpy(), ((height,) * 2, (width,) * 2), mode="reflect")
        shape = (_fast_length(padded.shape[0]), _fast_length(padded.shape[1]))
        spectrum = np.fft.rfft2(padded, shape) * np.fft.rfft2(kernel, shape)
        # Cyclic wrap-around only affects what is cropped here.
        full = np.fft.irfft2(spectrum, shape)
        full = full[2 * height : padded.shape[0], 2 * width : padded.shape[1]]
        channel.copy_(torch.from_numpy(full.astype(np.float32)))
    return result


def _fast_length(length: int) -> int:
    """Return the next length without a prime factor above 5; large factors slow the transform down."""
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1


def _odd(size: tuple[int, int], generator: np.random.Generator) -> int:
    return 2 * int(generator.integers(size[0] // 2, size[1] // 2 + 1)) + 1
