"""Estimates of the memory that a tile needs besides the weights.

The formulas describe the point of highest memory use of each network. `tests/unit/test_estimates.py` compares them with
the peak of tensor bytes, counted while the networks run on shapes alone: they are one to two times that peak.
On a GPU, the convolutions' workspace is added, as measured on an H100 (docs/benchmarks.md). Memory is proportional to
the batch size.
"""

from __future__ import annotations

import torch

from .config import TokenizerConfig, TransformerConfig

# Feature maps of full size in memory at once: 5 within a residual block, 3 wider ones where the decoder has just
# doubled the resolution, and one more for the convolution's workspace.
_BLOCK_MAPS = 6
_DOUBLED_MAPS = 4
# What the caching allocator reserves for a tile, relative to the estimate without workspace, rounded up: 0.95 GB
# instead of 0.81 GB for the official encoder, 1.16 GB instead of 0.54 GB for its decoder in bf16.
_ENCODER_WORKSPACE = 1.25
_DECODER_WORKSPACE = 2.25


def transformer_bytes(
    config: TransformerConfig,
    dtype: torch.dtype,
    tokens: int,
    *,
    fused: bool = True,
    keys: int | None = None,
) -> int:
    """Return the memory in bytes that one tile needs if blocks multiply in `dtype`.

    The peak is in the feed-forward layer: the float32 stream and its normalised copies, and the hidden layer twice.
    Without a fused kernel it can be in the attention, which then has the scores of all heads in memory, before and
    after the softmax. A quarter is added for the workspace of kernels and for tables that do not grow with the width.

    Args:
        fused: whether the attention kernel avoids storing its scores.
        keys: number of tokens that are attended to, if different.
    """
    stream, item = config.embed_dim * 4 * 5, dtype.itemsize
    most = tokens * (stream + config.embed_dim * item * 3 + config.ffn_dim * item * 2)
    if not fused:
        scores = 2 * config.num_heads * tokens * (tokens if keys is None else keys) * item
        most = max(most, tokens * (stream + config.embed_dim * item * 3) + scores)
    return most * 5 // 4


def encoder_bytes(config: TokenizerConfig, pixels: int, *, gpu: bool = False) -> int:
    """Return the memory in bytes for encoding `pixels` pixels in float32, on a GPU with the kernels' workspace."""
    maps = pixels * config.base_channels * 4 * _BLOCK_MAPS
    return int(maps * _ENCODER_WORKSPACE) if gpu else maps


def decoder_bytes(
    config: TokenizerConfig, pixels: int, dtype: torch.dtype, *, gpu: bool = False
) -> int:
    """Return the memory in bytes for decoding to `pixels` pixels in `dtype`, on a GPU with the kernels' workspace."""
    # The finest level receives the next coarser level's channels at full resolution.
    doubled = max(config.channel_multipliers[:2]) * _DOUBLED_MAPS
    maps = pixels * config.base_channels * dtype.itemsize * max(doubled, _BLOCK_MAPS)
    return int(maps * _DECODER_WORKSPACE) if gpu else maps
