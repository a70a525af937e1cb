"""Motion blur: a camera that moves at constant speed, or shakes, while the shutter is open."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from . import kernels
from .blur import convolve
from .steps import Range, Sizes, draw

_STEPS = 64
"""Points of a shaken path."""


@dataclass(frozen=True)
class MotionBlur:
    """One movement for the whole picture."""

    length: Range
    """Length of the path, in pixels."""
    shaken: float = 0.5
    """Probability that the path bends and varies in speed; otherwise it is a straight line at constant speed."""
    turning: float = 0.35
    """Standard deviation of a shaken path's turn at each of its 64 steps, in radians."""
    width: float = 0.5
    """Standard deviation across the path, in pixels."""

    def __call__(self, image: Tensor, generator: np.random.Generator, _sizes: Sizes) -> Tensor:
        """Return the blurred image."""
        length = draw(self.length, generator)
        angle = draw((0.0, 2 * math.pi), generator)
        if generator.random() >= self.shaken:
            return convolve(image, kernels.line(length, self.width, angle))
        path = shaken_path(length, angle, self.turning, generator)
        return convolve(image, kernels.path(path, self.width))


def shaken_path(
    length: float, angle: float, turning: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return points (n, 2), as (x, y) in pixels around their mean, at equal intervals of time.

    The direction is a random walk, and so is the logarithm of the speed, as in the trajectories of
    Boracchi and Foi (2012) and of DeblurGAN.

    Args:
        length: of the path, in pixels.
        angle: of its first step, in radians.
        turning: standard deviation of the turn at each step, in radians.
    """
    turns = generator.normal(0.0, turning, _STEPS)
    speed = np.exp(np.cumsum(generator.normal(0.0, 0.15, _STEPS)))
    direction = angle + np.cumsum(turns)
    steps = speed * length / speed.sum()
    points = np.cumsum(np.stack([np.cos(direction), np.sin(direction)], axis=1) * steps[:, None], 0)
    points = np.concatenate([np.zeros((1, 2)), points])
    return points - points.mean(axis=0)
