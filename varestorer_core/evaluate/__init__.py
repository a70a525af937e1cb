"""Measuring restored pictures against originals."""

from __future__ import annotations

from .metrics import psnr, ssim

__all__ = ["psnr", "ssim"]
