"""Configurations deduced from the shapes of parameters (by our names) and from the metadata of our files.

The pixel class and the number of norm groups do not follow from shapes; they come from the metadata of our files, or
else from the released models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import json_text
from ..config import TokenizerConfig, TransformerConfig, tokenizer_config, transformer_config
from ..errors import CheckpointError
from ..lora.factors import adapter_rank

Shapes = Mapping[str, tuple[int, ...]]

_RELEASED = {16: "0.06M"}
"""Pixel class by bits per token, for the released pair with another class: infinity_125M_256x256 and its tokenizer."""


def deduce_transformer(shapes: Shapes, metadata: Mapping[str, str]) -> TransformerConfig:
    """Return the configuration of a transformer.

    Raises:
        CheckpointError: if a parameter that determines it is missing or malformed, or the metadata
            disagree.
    """
    heads = _shape(shapes, "blocks.0.sa.scale_mul_1H11", 4)
    width, codebook_dim = _shape(shapes, "word_embed.weight", 2)
    # Deviation from upstream: the unconditional rows stay as in the file. Upstream truncates or pads
    # them to 512, the longest prompt; here only the first rows are ever used.
    text_rows, text_channels = _shape(shapes, "cfg_uncond", 2)
    config = TransformerConfig(
        embed_dim=width,
        depth=_count(shapes, r"^blocks\.(\d+)\."),
        num_heads=heads[1],
        codebook_dim=codebook_dim,
        text_channels=text_channels,
        ffn_dim=_shape(shapes, "blocks.0.ffn.fc1.weight", 2)[0],
        text_rows=text_rows,
        level_rows=_shape(shapes, "lvl_embed.weight", 2)[0],
        lora_rank=adapter_rank(shapes),
        lq_prior="lq_prior" in shapes,
    )
    values = declared_values(metadata)
    if not values:
        return replace(config, pixel_class=_RELEASED.get(config.codebook_dim, config.pixel_class))
    declared = transformer_config(values)
    # These do not follow from shapes.
    told = {name: getattr(declared, name) for name in ("pixel_class", "lq_rows", "cross_scale")}
    return _agreed(replace(config, **told), declared)


def deduce_tokenizer(shapes: Shapes, metadata: Mapping[str, str]) -> TokenizerConfig:
    """Return the configuration of a visual tokenizer.

    Raises:
        CheckpointError: if a parameter that determines it is missing or malformed, or the metadata
            disagree.
    """
    base = _shape(shapes, "encoder.conv_in.weight", 4)[0]
    levels = _count(shapes, r"^encoder\.down\.(\d+)\.")
    widths = [
        _shape(shapes, f"encoder.down.{level}.block.0.conv1.weight", 4)[0]
        for level in range(levels)
    ]
    if any(width % base for width in widths):
        raise CheckpointError(
            f"The tokenizer's level widths {widths} are not multiples of the first one, {base}. "
            "This tokenizer is not supported."
        )
    values = declared_values(metadata)
    declared = tokenizer_config(values) if values else None
    config = TokenizerConfig(
        codebook_dim=_shape(shapes, "encoder.conv_out.weight", 4)[0],
        base_channels=base,
        channel_multipliers=tuple(width // base for width in widths),
        num_res_blocks=_count(shapes, r"^encoder\.down\.0\.block\.(\d+)\."),
        norm_groups=declared.norm_groups if declared else 32,
    )
    # It does not follow from shapes.
    pixel_class = _RELEASED.get(config.codebook_dim, config.pixel_class)
    config = replace(config, pixel_class=declared.pixel_class if declared else pixel_class)
    if any(width % config.norm_groups for width in widths):
        raise CheckpointError(
            f"The tokenizer's level widths {widths} cannot be split into {config.norm_groups} norm "
            "groups, and the file does not declare another number. Use the file that VARestorer wrote."
        )
    return config if declared is None else _agreed(config, declared)


def declared_values(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration in our metadata; empty for files of other programs.

    Raises:
        CheckpointError: for metadata of a newer version, or damaged ones.
    """
    version = metadata.get("varestorer.format", "1")
    if version != "1":
        raise CheckpointError(
            f"The file has format version {version}, expected 1. It was written by a newer "
            "version; update VARestorer."
        )
    try:
        values = json_text.loads(metadata.get("varestorer.config") or "{}")
    except ValueError as error:
        raise CheckpointError("The configuration in the file's metadata is damaged.") from error
    if not isinstance(values, dict):
        raise CheckpointError("The configuration in the file's metadata is damaged.")
    return values


def _agreed(config: Any, declared: Any) -> Any:
    if config != declared:
        raise CheckpointError(
            f"The file's metadata declare {declared}, but its weights have {config}. "
            "The file is damaged."
        )
    return config


def _shape(shapes: Shapes, name: str, dims: int) -> tuple[int, ...]:
    if name not in shapes:
        raise CheckpointError(f"The parameter {name!r} is missing.")
    shape = tuple(shapes[name])
    if len(shape) != dims or min(shape) < 1:
        raise CheckpointError(
            f"The parameter {name!r} must have {dims} dimensions, got shape {shape}."
        )
    return shape


def _count(shapes: Shapes, pattern: str) -> int:
    """Return one more than the largest number that the pattern captures."""
    numbers = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if numbers and max(numbers) >= len(shapes):
        raise CheckpointError(
            f"The file numbers its layers up to {max(numbers)} but has only {len(shapes)} parameters. "
            "It is damaged."
        )
    return 1 + max(numbers, default=-1)
