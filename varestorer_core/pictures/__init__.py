"""Picture files in and out: what the command reads and writes.

`read_picture` returns upright RGB in [0, 1]; `write_picture` writes it back with the alpha channel,
bit depth, colour profile, greyness and metadata of its source. A file appears under its final name complete or not at
all.
"""

from __future__ import annotations

from .opening import MAX_PIXELS, READABLE, is_hidden, open_image, panics_as_errors
from .picture import Metadata, Picture
from .reading import read_picture, without_colors, without_metadata
from .signatures import format_of
from .transparency import fill_hidden
from .writing import ALPHA_FORMATS, DEEP_FORMATS, FORMATS, check_target, to_uint8, write_picture

__all__ = [
    "ALPHA_FORMATS",
    "DEEP_FORMATS",
    "FORMATS",
    "MAX_PIXELS",
    "READABLE",
    "Metadata",
    "Picture",
    "check_target",
    "fill_hidden",
    "format_of",
    "is_hidden",
    "open_image",
    "panics_as_errors",
    "read_picture",
    "to_uint8",
    "without_colors",
    "without_metadata",
    "write_picture",
]
