"""The parts of a degradation: steps, and random combinations of them.

A step is a frozen dataclass whose fields are its ranges; it is called with an image (3, H, W) float32, roughly in
[0, 1], and returns another one, possibly of another size. Steps draw their random numbers in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

Range = tuple[float, float]
"""(low, high) of a uniform distribution; equal ends fix the value."""

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Sizes:
    """Sizes that a step may resize to."""

    original: Size
    """Size of the picture before any step."""
    output: Size
    """Size of the degraded picture."""


class Step(Protocol):
    """One kind of damage."""

    def __call__(self, image: Tensor, generator: np.random.Generator, sizes: Sizes, /) -> Tensor:
        """Return the damaged image."""
        ...


@dataclass(frozen=True)
class Sometimes:
    """A step that is applied with a probability."""

    probability: float
    step: Step

    def __call__(self, image: Tensor, generator: np.random.Generator, sizes: Sizes) -> Tensor:
        """Return the damaged image, or the image itself."""
        taken = generator.random() < self.probability
        return self.step(image, generator, sizes) if taken else image


@dataclass(frozen=True)
class OneOf:
    """One of several steps, drawn by weight."""

    choices: tuple[tuple[float, Step], ...]
    """Pairs (weight, step); the weights sum to 1."""

    def __call__(self, image: Tensor, generator: np.random.Generator, sizes: Sizes) -> Tensor:
        """Return the image after one of the steps."""
        weights = [weight for weight, _ in self.choices]
        _, step = self.choices[int(generator.choice(len(weights), p=weights))]
        return step(image, generator, sizes)


@dataclass(frozen=True)
class EitherOrder:
    """Two groups of steps, one after the other in random order."""

    first: tuple[Step, ...]
    second: tuple[Step, ...]

    def __call__(self, image: Tensor, generator: np.random.Generator, sizes: Sizes) -> Tensor:
        """Return the image after all steps of both groups."""
        swapped = generator.random() < 0.5
        groups = (self.second, self.first) if swapped else (self.first, self.second)
        for step in (*groups[0], *groups[1]):
            image = step(image, generator, sizes)
        return image


def draw(values: Range, generator: np.random.Generator) -> float:
    """Draw a number from a range."""
    return float(generator.uniform(*values))
