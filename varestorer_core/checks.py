"""Checks of a restoration: of its inputs before it starts, and of the networks' results for NaN and infinite values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .config import TransformerConfig
from .errors import ImageError, SettingError, VARestorerError


def check_finite(values: Tensor, network: str) -> None:
    """Reject NaN and infinite results; every comparison with NaN is false, so they would become ordinary bits.

    Raises:
        VARestorerError: naming the network.
    """
    if not bool(torch.isfinite(values).all()):
        raise VARestorerError(
            f"The {network} returned NaN or infinite values. In fp16, values above 65,504 overflow: load the model in "
            "bf16 or fp32. If it already is, the file is damaged."
        )


def check_pictures(pictures: Sequence[Tensor]) -> None:
    """Reject pictures that cannot be restored, before any work."""
    if len(pictures) == 0:
        raise ImageError("Expected at least one picture, got an empty batch. Load a picture first.")
    for index, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape:
            raise ImageError(
                f"Picture {index} must be (3, height, width) with positive sides, got "
                f"{tuple(picture.shape)}."
            )
        if not bool(torch.isfinite(picture).all()):
            raise ImageError(
                f"Picture {index} holds NaN or infinite values. An earlier step failed; check it."
            )


def check_bits(made: int, config: TransformerConfig) -> None:
    """Reject a VAE with another number of bits per token than the model."""
    if made != config.codebook_dim:
        raise SettingError(
            f"This model uses {config.codebook_dim} bits per token, but the VAE uses {made}. Model "
            "and VAE belong to different families: load both bundled files, or both official ones."
        )
