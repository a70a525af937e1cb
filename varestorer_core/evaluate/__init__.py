"""Evaluation of restored pictures against originals."""

from __future__ import annotations

from .pairs import Pair, make_pair
from .passes import CachedSteps, CausalPass, Pass, RefedSteps, Timed
from .photographs import SCIKIT_IMAGE, cut_square, scikit_image_photographs
from .scores import Scores, difference, mean_scores, score
from .seams import seam_score

__all__ = [
    "SCIKIT_IMAGE",
    "CachedSteps",
    "CausalPass",
    "Pair",
    "Pass",
    "RefedSteps",
    "Scores",
    "Timed",
    "cut_square",
    "difference",
    "make_pair",
    "mean_scores",
    "scikit_image_photographs",
    "score",
    "seam_score",
]
