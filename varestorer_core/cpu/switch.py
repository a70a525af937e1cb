"""Conditions under which the CPU kernels run."""

from __future__ import annotations

import os

import torch
from torch import Tensor

VARIABLE = "VARESTORER_CPU_KERNELS"
"""Environment variable, read at each pass: "off" runs the plain networks, "all" runs every kernel
of this package without timing, and any other value runs those that are faster on this machine (see
`speed`)."""


def mode() -> str:
    """Return "off", "all" or "auto"."""
    value = os.environ.get(VARIABLE, "").lower()
    return value if value in ("off", "all") else "auto"


def runs_on(x: Tensor) -> bool:
    """Return whether the kernels run on an input: on a CPU, without gradients, not compiling, not switched off."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and mode() != "off"
    )
