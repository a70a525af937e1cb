"""Values and gradients against slow formulas in numpy."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pair(*shape: int, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(shape, generator=generator, dtype=torch.double) for _ in range(2))
    return (a * 2 - 1) * size, (b * 2 - 1) * size


def check(
    loss: Callable[[torch.Tensor], torch.Tensor],
    plain: Callable[[Array], float],
    at: torch.Tensor,
    entries: int = 40,
) -> None:
    """Compare value and gradient at a point; of many entries, a random selection."""
    at = at.clone().requires_grad_(True)
    value = loss(at)
    value.backward()
    start = at.detach().numpy()
    assert float(value.detach()) == pytest.approx(plain(start), rel=1e-6, abs=1e-9)
    assert at.grad is not None
    gradient = at.grad.numpy().flatten()
    assert np.abs(gradient).max() > 0
    chosen = np.random.default_rng(0).permutation(start.size)[:entries]
    for entry in chosen:
        near = []
        for sign in (1, -1):
            moved = start.copy()
            moved.flat[entry] += sign * 1e-5
            near.append(plain(moved))
        slope = (near[0] - near[1]) / 2e-5
        assert gradient[entry] == pytest.approx(slope, rel=1e-4, abs=1e-8), entry


def entropy(p: Array) -> Array:
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def plain_enlarge(grid: Array, size: int) -> Array:
    """Return (d, h, w) on a larger square grid: bilinear, half-pixel centres, edges repeated."""
    side = grid.shape[-1]
    result = np.zeros((grid.shape[0], size, size))
    for y in range(size):
        for x in range(size):
            v, u = ((c + 0.5) * side / size - 0.5 for c in (y, x))
            v0, u0 = math.floor(v), math.floor(u)
            for dv, du in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = abs(1 - dv - (v - v0)) * abs(1 - du - (u - u0))
                row, column = (min(max(c, 0), side - 1) for c in (v0 + dv, u0 + du))
                result[:, y, x] += weight * grid[:, row, column]
    return result


def direct_convolution(image, kernel):
    """Convolve (C, H, W) position by position."""
    half = kernel.shape[0] // 2
    padded = np.pad(image.numpy(), ((0, 0), (half, half), (half, half)), mode="reflect")
    flipped = kernel[::-1, ::-1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape, axis=(1, 2))
    return torch.from_numpy((windows * flipped).sum(axis=(-2, -1)).astype(np.float32))
