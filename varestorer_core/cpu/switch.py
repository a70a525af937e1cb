"""Where the CPU kernels run: on a CPU, without gradients, and unless they are switched off."""

from __future__ import annotations

import os

import torch
from torch import Tensor

VARIABLE = "VARESTORER_CPU_KERNELS"
"""Environment variable; "off" leaves every pass to the plain networks. Read at each pass."""


def is_on() -> bool:
    """Return whether the layer is switched on."""
    return os.environ.get(VARIABLE, "").lower() not in ("off", "0", "false", "no")


def runs_on(x: Tensor) -> bool:
    """Return whether the kernels take an input: on a CPU, no gradients recorded, not compiling, switched on."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and not torch.is_grad_enabled() and is_on()
