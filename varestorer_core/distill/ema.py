"""Exponential moving average of the weights, which is less noisy than the last step's and usually better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Averages = dict[str, dict[str, Tensor]]
"""Averages (float32) by names of module and parameter."""


class WeightAverage:
    """Average of the trainable parameters."""

    def __init__(self, modules: Mapping[str, nn.Module], decay: float):
        """Start at the current weights.

        Args:
            decay: factor of the previous average in each step, at least 0 and below 1.
        """
        self.decay = decay
        self._parameters = {
            name: {n: p for n, p in module.named_parameters() if p.requires_grad}
            for name, module in modules.items()
        }
        self.averages: Averages = {}
        self.reset()

    def reset(self) -> None:
        """Restart at the current weights."""
        self.averages = {
            module: {name: p.detach().float().clone() for name, p in parameters.items()}
            for module, parameters in self._parameters.items()
        }

    def load(self, averages: Averages) -> None:
        """Continue with stored averages.

        Raises:
            ValueError: if they belong to other parameters.
        """
        for module, parameters in self.averages.items():
            stored = averages.get(module, {})
            for name, average in parameters.items():
                if name not in stored or stored[name].shape != average.shape:
                    raise ValueError(f"the averaged weights lack {module}.{name} of this shape")
                average.copy_(stored[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step (counted from 0) to the average."""
        # The weights change fast in the beginning, when a long memory would keep the random initialisation.
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, parameters = zip(*self._pairs(), strict=True)
        # All at once: on a GPU, one kernel for many tensors instead of one for each.
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(averages), [p.float() for p in parameters], 1 - decay
        )

    @torch.no_grad()
    def apply(self) -> None:
        """Replace the modules' weights by the averages."""
        for average, parameter in self._pairs():
            parameter.copy_(average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the modules have the averages instead of their weights."""
        kept = [parameter.detach().clone() for _, parameter in self._pairs()]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for (_, parameter), weights in zip(self._pairs(), kept, strict=True):
                    parameter.copy_(weights)

    def _pairs(self) -> Iterator[tuple[Tensor, nn.Parameter]]:
        for module, parameters in self._parameters.items():
            for name, parameter in parameters.items():
                yield self.averages[module][name], parameter
