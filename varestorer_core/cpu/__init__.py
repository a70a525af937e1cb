"""A removable layer: our networks faster on CPUs, without gradients.

Nothing depends on it: `varestorer_core.kernels` is its only importer and works without it. Of each path, ours or
PyTorch's own runs, whichever is faster on this machine; `choices()` lists them. VARESTORER_CPU_KERNELS=off switches
the layer off. Results differ from those of the plain networks by rounding.
"""

from .accelerate import accelerate, foreign_layers
from .maps import maps_kept as memory_kept
from .speed import choices

__all__ = ["accelerate", "choices", "foreign_layers", "memory_kept"]
