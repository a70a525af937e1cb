"""A removable layer: our networks faster on CPUs, without gradients.

Nothing depends on it. `varestorer_core.kernels` is its only importer and does without it; VARESTORER_CPU_KERNELS=off
switches it off. Results differ from the plain networks by rounding.
"""

from .accelerate import accelerate, foreign_layers
from .maps import maps_kept as memory_kept

__all__ = ["accelerate", "foreign_layers", "memory_kept"]
