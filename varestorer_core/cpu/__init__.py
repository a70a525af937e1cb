"""Optional CPU kernels for the networks, for inference without gradients.

Nothing depends on this package: `varestorer_core.kernels` is its only importer and works without it. For each operation
the faster of our kernel and PyTorch's runs; `choices()` lists the decisions. VARESTORER_CPU_KERNELS=off disables the
kernels. Results differ from those of the plain networks only by rounding.
"""

from .accelerate import accelerate, foreign_layers
from .maps import keep_feature_maps as memory_kept
from .speed import choices

__all__ = ["accelerate", "choices", "foreign_layers", "memory_kept"]
