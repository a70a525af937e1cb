"""Conditions under which the CPU kernels run."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

import torch
from torch import Tensor

from ..wording import shown

_log = logging.getLogger(__name__)

VARIABLE = "VARESTORER_CPU_KERNELS"
"""Environment variable, read at each pass: "off" runs the plain networks, "all" runs every kernel
of this package without timing, and "auto", the default, runs those that are faster on this machine (see
`speed`)."""


def mode() -> str:
    """Return "off", "all" or "auto"."""
    value = os.environ.get(VARIABLE, "").lower()
    if value in ("off", "all"):
        return value
    if value not in ("", "auto"):
        _warn(value)
    return "auto"


@lru_cache  # a value once, not at each pass
def _warn(value: str) -> None:
    _log.warning(
        "%s must be off, all or auto, got %s. It is read as auto.", VARIABLE, shown(repr(value))
    )


def runs_on(x: Tensor) -> bool:
    """Return whether the kernels run on an input: on a CPU, without gradients, not compiling, not switched off."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and mode() != "off"
    )
