"""The visual tokenizer: autoencoder plus multi-scale binary quantiser (Infinity, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..config import TokenizerConfig
from ..schedule import ScaleSchedule
from .autoencoder import Decoder, Encoder
from .bsq import QuantizedPyramid, quantize


class VisualTokenizer(nn.Module):
    """Encodes pictures to features, bits and codes, and decodes them.

    Args:
        config: shape of the network.
        operations: namespace of layer classes (`torch.nn`, or a host's offload-aware ones).
        dtype, device: of the parameters; `device="meta"` builds without memory.
        decoder_dtype: of the decoder's parameters; codes are cast to it. Default `dtype`, without a cast.
    """

    def __init__(
        self,
        config: TokenizerConfig,
        *,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        decoder_dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.config = config
        self.decoder_dtype = decoder_dtype
        self.encoder = Encoder(config, operations, dtype=dtype, device=device)
        self.decoder = Decoder(config, operations, dtype=decoder_dtype or dtype, device=device)

    def encode(self, images: Tensor) -> Tensor:
        """Return the raw features (B, d, h, w) of images (B, 3, H, W) in [-1, 1]; H, W multiples of the patch."""
        return self.encoder(images)

    def decode(self, summed_codes: Tensor) -> Tensor:
        """Return images (B, 3, H, W), clamped to [-1, 1], of summed codes (B, d, h, w)."""
        codes = summed_codes.to(dtype=self.decoder_dtype)
        return self.decoder(codes).clamp(-1, 1)

    def quantize(self, images: Tensor, schedule: ScaleSchedule) -> QuantizedPyramid:
        """Return the bits of images (B, 3, H, W) in [-1, 1] at every scale; quantising runs in float32."""
        return quantize(self.encode(images).float(), schedule)

    def forward(self, images: Tensor, schedule: ScaleSchedule) -> Tensor:
        """Return the reconstruction (B, 3, H, W) of images, through the bits."""
        return self.decode(self.quantize(images, schedule).summed_codes)
