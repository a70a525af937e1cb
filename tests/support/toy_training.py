"""A training stage that is fast: a linear layer on 2 x 2 pictures."""

import numpy as np
import torch

from varestorer_core.distill.batches import Draw
from varestorer_core.distill.loop import LoopSettings, train
from varestorer_core.distill.sources import Squares


def linear(inputs: int = 2) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, 2)


class Toy:
    """A stage that draws 2 x 2 pictures and asks for small outputs of a linear layer."""

    draws = (Draw(4, 2),)

    def __init__(self, module: torch.nn.Module, step=None, evaluate=None):
        self.modules = {"m": module}
        self.module, self._step, self._evaluate = module, step, evaluate
        self.batches: list[torch.Tensor] = []

    def step(self, step, batch, generator):
        x = batch["clean"][:, 0, 0, : self.module.in_features]
        x = x + 0.1 * torch.rand(x.shape, generator=generator)
        self.batches.append(batch["clean"])
        loss = self.module(x).square().mean()
        return {"loss": loss if self._step is None else self._step(step, loss)}

    def evaluate(self, step, folder):
        return {} if self._evaluate is None else self._evaluate(step)


SOURCE = Squares(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8))


def run(folder, module, *, resume=False, step=None, evaluate=None, **settings) -> int:
    values = {"steps": 6, "warmup": 2, "save_every": 2, **settings}
    toy = module if isinstance(module, Toy) else Toy(module, step, evaluate)
    return train(folder, toy, SOURCE, LoopSettings(**values), resume=resume)
