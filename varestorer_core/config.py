"""Frozen configurations of the two networks, and named presets.

`checkpoint` deduces a configuration from keys and shapes, as far as they determine it; our own
safetensors contain it as JSON.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from .errors import CheckpointError
from .schedule import PIXEL_CLASSES
from .wording import shown

_MOST = {
    "embed_dim": 65536,
    "depth": 256,
    "num_heads": 1024,
    "codebook_dim": 256,
    "text_channels": 65536,
    "ffn_dim": 1 << 18,
    "text_rows": 65536,
    "level_rows": 4096,
    "lora_rank": 65536,
    "base_channels": 8192,
    "num_res_blocks": 64,
    "norm_groups": 8192,
}
"""Largest sizes of a network, about thirty times those of the released ones."""


def _check_sizes(config: Any) -> None:
    """Reject implausible sizes before a network is built from them."""
    for entry in dataclasses.fields(config):
        value, most = getattr(config, entry.name), _MOST.get(entry.name)
        least = 0 if entry.name == "lora_rank" else 1
        if most is not None and (type(value) is not int or not least <= value <= most):
            raise CheckpointError(
                f"{entry.name} must be a whole number from {least} to {most}, got {shown(repr(value))}. The file is "
                "damaged, or its configuration is."
            )


def _check_pixel_class(name: Any) -> None:
    if not isinstance(name, str) or name not in PIXEL_CLASSES:
        raise CheckpointError(
            f"pixel_class must be one of {', '.join(PIXEL_CLASSES)}, got {shown(repr(name))}."
        )


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the visual autoregressive transformer, both teacher and one-step student."""

    embed_dim: int
    """Width C of the token stream."""
    depth: int
    """Number of blocks."""
    num_heads: int
    """Self- and cross-attention heads; must divide `embed_dim` into multiples of 4."""
    codebook_dim: int
    """Bits per token, d."""
    text_channels: int
    """Width of the text encoder's features."""
    ffn_dim: int
    """Hidden width of the feed-forward layers."""
    text_rows: int = 512
    """Rows of the learned unconditional text embedding `cfg_uncond`."""
    level_rows: int = 15
    """Rows of the level embedding table."""
    lora_rank: int = 0
    """Rank of separate adapters on self- and cross-attention; 0 means none (or merged)."""
    lq_prior: bool = False
    """Whether a learned log-odds prior towards the bits of the LQ pyramid is added to the logits.

    Not part of the official model; with it, our small models start training by copying their input.
    """
    pixel_class: str = "0.25M"
    """Prefix of the scale schedule that the model was trained on."""
    lq_rows: str = "next"
    """Rotary rows of the appended LQ code map: those of the "next" scale, as in the released weights, or its "own".

    Its own are those of the finest scale: a token and the LQ code of its position then have the same coordinates.
    """
    cross_scale: bool = True
    """Whether every scale attends to all others; False for a student that was trained like the teacher, without
    attention to finer scales and the appended LQ code map (an ablation of the paper)."""

    def __post_init__(self) -> None:
        _check_sizes(self)
        if self.embed_dim % self.num_heads or (self.embed_dim // self.num_heads) % 4:
            raise CheckpointError(
                f"embed_dim must be num_heads times a multiple of 4, got embed_dim={self.embed_dim} "
                f"and num_heads={self.num_heads}. The file's configuration is damaged."
            )
        if self.lq_rows not in ("next", "own"):
            raise CheckpointError(
                f"lq_rows must be next or own, got {self.lq_rows!r}. The file's configuration is damaged."
            )
        _check_pixel_class(self.pixel_class)

    @property
    def head_dim(self) -> int:
        """Channels per attention head."""
        return self.embed_dim // self.num_heads


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of the BSQ visual tokenizer (encoder, quantiser, decoder)."""

    codebook_dim: int
    """Bits per token, d."""
    base_channels: int = 128
    """Width of the first level."""
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4, 4)
    """Width of each level as a multiple of `base_channels`; each level but the last halves the resolution."""
    num_res_blocks: int = 2
    """Residual blocks per encoder level; the decoder has one more."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""
    pixel_class: str = "0.25M"
    """Prefix of the scale schedule that the encoder was trained on, for uses without a transformer."""

    def __post_init__(self) -> None:
        _check_sizes(self)
        multipliers = self.channel_multipliers
        if not 1 <= len(multipliers) <= 8 or not all(1 <= factor <= 64 for factor in multipliers):
            raise CheckpointError(
                f"channel_multipliers must be 1 to 8 factors from 1 to 64, got {shown(multipliers)}. The file is "
                "damaged."
            )
        _check_pixel_class(self.pixel_class)

    @property
    def patch_size(self) -> int:
        """Pixels per token along one side: 16 with five levels, 8 with four."""
        return 2 ** (len(self.channel_multipliers) - 1)


VARESTORER_2B = TransformerConfig(
    embed_dim=2048,
    depth=32,
    num_heads=16,
    codebook_dim=32,
    text_channels=2048,
    ffn_dim=8192,
    lora_rank=32,
)
"""The released student: Infinity-2B with rank-32 adapters."""


def recommended_detail(config: TransformerConfig) -> float:
    """Return the recommended noise scale of a model.

    The official model was trained and released with sampling at full noise; small ones, such as the
    bundled one, are sharpest with the most likely bits.
    """
    return 1.0 if config.embed_dim >= VARESTORER_2B.embed_dim else 0.0


INFINITY_VAE_D32 = TokenizerConfig(codebook_dim=32)
"""The released tokenizer: 32 bits per token, 16 pixels per token."""


def to_dict(config: TransformerConfig | TokenizerConfig) -> dict[str, Any]:
    """Return the configuration as JSON-serialisable values."""
    return dataclasses.asdict(config)


def transformer_config(values: dict[str, Any]) -> TransformerConfig:
    """Build a transformer configuration from the JSON of a file's metadata.

    Raises:
        CheckpointError: for fields that are unknown or missing.
    """
    return _build(TransformerConfig, values)


def tokenizer_config(values: dict[str, Any]) -> TokenizerConfig:
    """Build a tokenizer configuration from the JSON of a file's metadata.

    Raises:
        CheckpointError: for fields that are unknown or missing.
    """
    values = dict(values)
    if "channel_multipliers" in values:
        multipliers = values["channel_multipliers"]
        if not isinstance(multipliers, (list, tuple)):
            raise CheckpointError(
                f"channel_multipliers must be a list, got {shown(repr(multipliers))}. The file's configuration is "
                "damaged."
            )
        values["channel_multipliers"] = tuple(multipliers)
    return _build(TokenizerConfig, values)


def _build(cls: type, values: dict[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise CheckpointError(
            f"The file's configuration has fields that this version does not support: {shown(', '.join(unknown))}. "
            "It was written by a newer version; update VARestorer."
        )
    try:
        return cls(**values)
    except CheckpointError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"The file's configuration is incomplete: {error}.") from error
