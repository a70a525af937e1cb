"""A picture, a generator and sizes for tests of degradations."""

import numpy as np
import torch

from varestorer_core.degradation.steps import Sizes

SIZES = Sizes((8, 8), (8, 8))


def picture(height=40, width=56):
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = 0.5 + 0.4 * torch.sin(9 * x + 5 * y)
    return torch.stack([waves, x, y])


def generator(seed=0):
    return np.random.default_rng(seed)
