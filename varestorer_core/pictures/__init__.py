"""Picture files in and out: what the command reads and writes.

`read_picture` returns upright RGB in [0, 1]; `write_picture` writes it back with the alpha channel,
bit depth and colour profile that it came with. A file appears under its final name whole or not at
all.
"""

from __future__ import annotations

from .reading import MAX_PIXELS, READABLE, Picture, read_picture
from .writing import ALPHA_FORMATS, DEEP_FORMATS, FORMATS, check_target, to_uint8, write_picture

__all__ = [
    "ALPHA_FORMATS",
    "DEEP_FORMATS",
    "FORMATS",
    "MAX_PIXELS",
    "READABLE",
    "Picture",
    "check_target",
    "read_picture",
    "to_uint8",
    "write_picture",
]
