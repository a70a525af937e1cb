"""PyTorch pickles (.pth, .pt, .ckpt, .bin): reading without running code, within bounds of time and memory.

`reading` opens a file after `bounds` has followed its `instructions` with `stand_ins` for the objects.
"""

from .reading import check_pickle, read_pickle

__all__ = ["check_pickle", "read_pickle"]
