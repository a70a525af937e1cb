"""Making low-quality pictures from good ones: steps with random ranges, and presets of them.

Everything random comes from one `numpy.random.Generator` that the caller passes (`picture_generator` makes one per
picture), so the same seed gives the same bytes wherever numpy, PyTorch and the JPEG library are the same.
"""

from __future__ import annotations

from .degrade import degrade, picture_generator
from .presets import PRESETS, Preset, get_preset

__all__ = ["PRESETS", "Preset", "degrade", "get_preset", "picture_generator"]
