"""How much memory a tile needs besides the weights, before it is run.

The formulas follow the fullest point of each network. They were set beside the peak of tensor bytes counted while the
networks ran on shapes alone, as `tests/unit/test_estimates.py` does again: it holds them to once to twice that peak.
What kernels take for themselves has not been measured on a GPU. Memory grows in step with the batch.
"""

from __future__ import annotations

import torch

from .config import TokenizerConfig, TransformerConfig

# Feature maps of full size alive at once: 5 within a residual block, 3 wider ones where the decoder has just doubled
# its map, and one more for the convolution's own use.
_BLOCK_MAPS = 6
_DOUBLED_MAPS = 4


def transformer_bytes(
    config: TransformerConfig,
    dtype: torch.dtype,
    tokens: int,
    *,
    fused: bool = True,
    keys: int | None = None,
) -> int:
    """Return the memory that one tile of so many tokens needs where blocks multiply in `dtype`.

    The fullest point is the feed-forward: the float32 stream and its normalised copies, and the hidden layer twice.
    Without a fused kernel it can be the attention, which then has the scores of all heads in memory, before and after
    the softmax. A quarter more is for what kernels take, and for tables that do not grow with the width.

    Args:
        fused: whether the attention kernel keeps its scores out of memory.
        keys: tokens that are attended to, where they are not the same.
    """
    stream, item = config.embed_dim * 4 * 5, dtype.itemsize
    most = tokens * (stream + config.embed_dim * item * 3 + config.ffn_dim * item * 2)
    if not fused:
        scores = 2 * config.num_heads * tokens * (tokens if keys is None else keys) * item
        most = max(most, tokens * (stream + config.embed_dim * item * 3) + scores)
    return most * 5 // 4


def encoder_bytes(config: TokenizerConfig, pixels: int) -> int:
    """Return the memory for encoding so many pixels, in float32."""
    return pixels * config.base_channels * 4 * _BLOCK_MAPS


def decoder_bytes(config: TokenizerConfig, pixels: int, dtype: torch.dtype) -> int:
    """Return the memory for decoding to so many pixels in `dtype`."""
    # The finest level receives the next coarser level's width at full size.
    doubled = max(config.channel_multipliers[:2]) * _DOUBLED_MAPS
    return pixels * config.base_channels * dtype.itemsize * max(doubled, _BLOCK_MAPS)
