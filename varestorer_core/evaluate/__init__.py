"""Measuring restored pictures against originals."""

from __future__ import annotations

from .gradients import gmsd, gradient_energy
from .metrics import psnr, ssim
from .ms_ssim import ms_ssim

__all__ = ["gmsd", "gradient_energy", "ms_ssim", "psnr", "ssim"]
