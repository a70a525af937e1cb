"""Measuring restored pictures against originals."""

from __future__ import annotations

from .gradients import gmsd, gradient_energy
from .metrics import psnr, ssim
from .ms_ssim import ms_ssim
from .photographs import SCIKIT_IMAGE, cut_square, scikit_image_photographs
from .scores import Scores, difference, mean_scores, score

__all__ = [
    "SCIKIT_IMAGE",
    "Scores",
    "cut_square",
    "difference",
    "gmsd",
    "gradient_energy",
    "mean_scores",
    "ms_ssim",
    "psnr",
    "scikit_image_photographs",
    "score",
    "ssim",
]
