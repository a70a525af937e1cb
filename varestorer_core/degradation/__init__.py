"""Degradation of pictures: steps with random parameters, and presets of them.

All random numbers come from one `numpy.random.Generator` that the caller passes (`picture_generator` creates one per
picture), so the same seed produces the same bytes with the same versions of numpy, PyTorch and the JPEG library.
"""

from __future__ import annotations

from .degrade import degrade, picture_generator
from .presets import PRESETS, Preset, get_preset

__all__ = ["PRESETS", "Preset", "degrade", "get_preset", "picture_generator"]
