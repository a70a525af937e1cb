"""The student's perceptual loss: structural, without requirements, or LPIPS, which needs its package and weights.

Nothing is downloaded: LPIPS is only used if torchvision's file of VGG-16 is already in torch's cache.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import SettingError
from .losses import structural_loss

PerceptualName = Literal["structural", "lpips"]
PERCEPTUAL: tuple[PerceptualName, ...] = get_args(PerceptualName)
PerceptualLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps two batches (B, 3, H, W) in [-1, 1] to a scalar, 0 for equal ones."""

BACKBONE_FILE = "vgg16-397923af.pth"
"""Name of the weights that LPIPS uses, in the cache of torch.hub."""

_log = logging.getLogger(__name__)


def perceptual_loss(name: PerceptualName, device: str | torch.device = "cpu") -> PerceptualLoss:
    """Return the loss with a name.

    Raises:
        SettingError: for another name, or if the package or weights of LPIPS are missing.
    """
    check_perceptual(name)
    loss = structural_loss if name == "structural" else _lpips(device)
    _log.info("perceptual loss: %s", name)
    return loss


def check_perceptual(name: str) -> None:
    """Raise an error if a loss is not available, before hours of other stages.

    Raises:
        SettingError: see `perceptual_loss`.
    """
    if name not in PERCEPTUAL:
        raise SettingError(f"perceptual must be one of {', '.join(PERCEPTUAL)}, got {name!r}.")
    if name == "structural":
        return
    _lpips_package()
    cached = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILE
    if not cached.is_file():
        raise SettingError(
            f"The perceptual loss lpips needs the weights of VGG-16, expected in {cached}, which does not exist. "
            "Put torchvision's file there, or use --perceptual structural."
        )


def _lpips(device: str | torch.device) -> PerceptualLoss:
    """Return LPIPS on VGG-16, frozen, averaged over the batch."""
    network = (
        _lpips_package().LPIPS(net="vgg", verbose=False).eval().requires_grad_(False).to(device)
    )
    return lambda a, b: network(a, b).mean()


def _lpips_package() -> Any:
    try:
        return importlib.import_module("lpips")
    except ImportError as error:
        raise SettingError(
            f"The perceptual loss lpips needs the package lpips, which cannot be imported ({error}). Install "
            "it with pip install lpips, or use --perceptual structural."
        ) from error
