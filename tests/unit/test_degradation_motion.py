"""Motion blur: properties of straight and shaken paths."""

import math

import numpy as np
import pytest
import torch

from varestorer_core.degradation import kernels
from varestorer_core.degradation.blur import convolve
from varestorer_core.degradation.motion import MotionBlur, shaken_path
from varestorer_core.degradation.steps import Sizes

SIZES = Sizes((64, 64), (64, 64))


def generator(seed=0):
    return np.random.default_rng(seed)


def dot():
    image = torch.zeros(3, 65, 65)
    image[:, 32, 32] = 1
    return image


def test_a_straight_movement_is_a_line_of_its_length():
    step = MotionBlur(length=(15.0, 15.0), shaken=0.0)
    moved = step(dot(), generator(), SIZES)
    rng = generator()
    rng.uniform(15.0, 15.0)
    wanted = convolve(dot(), kernels.line(15.0, 0.5, rng.uniform(0, 2 * math.pi)))
    torch.testing.assert_close(moved, wanted)
    y, x = torch.nonzero(moved[0] > moved[0].max() / 2, as_tuple=True)
    extent = math.hypot(int(y.max() - y.min()), int(x.max() - x.min()))
    assert 12 <= extent <= 16


def test_a_shaken_path_has_its_length_and_lies_around_the_origin():
    path = shaken_path(12.0, 0.3, 0.35, generator(4))
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(12.0)
    assert path.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)


def test_a_path_without_turns_is_straight():
    path = shaken_path(12.0, 0.3, 0.0, generator(4))
    direction = path[-1] - path[0]
    assert math.atan2(direction[1], direction[0]) == pytest.approx(0.3)
    assert np.linalg.norm(direction) == pytest.approx(12.0)


def test_shaken_movements_bend():
    bends = []
    for seed in range(20):
        path = shaken_path(12.0, 0.0, 0.35, generator(seed))
        bends.append(np.linalg.norm(path[-1] - path[0]) / 12.0)
    assert min(bends) < 0.7
    assert max(bends) < 1


def test_the_kernel_of_a_path_lies_where_the_path_does():
    points = np.array([[3.0, 0.0], [3.0, 0.0], [-1.0, 2.0]])
    kernel = kernels.path(points, 0.5)
    middle = kernel.shape[0] // 2
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel[middle, middle + 3] == pytest.approx(2 * kernel[middle + 2, middle - 1], rel=1e-4)
    assert kernel[middle, middle + 3] == kernel.max()


def test_blur_keeps_flat_pictures_flat():
    for shaken in (0.0, 1.0):
        step = MotionBlur(length=(5.0, 20.0), shaken=shaken)
        flat = torch.full((3, 30, 40), 0.3)
        torch.testing.assert_close(step(flat, generator(1), SIZES), flat, atol=1e-5, rtol=0)
