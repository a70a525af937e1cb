"""The visual tokenizer as a native VAE, so that the host's own VAE nodes support it too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.model_management as mm
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ...varestorer_core.assets import TINY_TOKENIZER, TINY_TOKENIZER_CRISP
from ...varestorer_core.errors import SettingError
from ...varestorer_core.estimates import decoder_bytes, encoder_bytes
from ...varestorer_core.schedule import get_schedule
from .files import BUNDLED, BUNDLED_CRISP, read_model
from .memory import make_patcher
from .notices import announce
from .tile_codes import TileCodes

if TYPE_CHECKING:
    from ...varestorer_core.models.tokenizer import VisualTokenizer

VAE_FOLDER = "vae"
BUNDLED_VAES = {BUNDLED: TINY_TOKENIZER, BUNDLED_CRISP: TINY_TOKENIZER_CRISP}
"""Assets by menu entry."""

_PICTURES_ATTRIBUTE = "varestorer_pictures"
"""Attribute of the latents of pictures, by which they are told from tiles whose places are lost."""


def whole_pictures(latents: Tensor) -> Tensor:
    """Mark latents (B, d, h, w) as pictures of their own, not tiles, and return them."""
    setattr(latents, _PICTURES_ATTRIBUTE, True)
    return latents


class HostTokenizer(nn.Module):
    """The module inside the host's VAE: the tokenizer, whose encoder always runs in float32.

    The signs of the encoder's residuals decide bits, so it keeps the official float32; the decoder uses the
    dtype of its input.
    """

    tokenizer: VisualTokenizer

    def __init__(self, tokenizer: VisualTokenizer):
        super().__init__()
        self.tokenizer = tokenizer

    def encode(self, images: Tensor, **_: Any) -> Tensor:
        """Return raw features (B, d, h, w) of images (B, 3, H, W) in [-1, 1]."""
        return self.tokenizer.encode(images.float())

    def decode(self, codes: Tensor, **_: Any) -> Tensor:
        """Return images (B, 3, H, W) in [-1, 1] of summed codes (B, d, h, w)."""
        return self.tokenizer.decode(codes)


class VARestorerVAE(comfy.sd.VAE):
    """A native VAE around the tokenizer.

    The host's constructor first runs with its smallest built-in model and sets every attribute of the
    installed ComfyUI version; the relevant ones are then replaced. A copy of the constructor would
    lack attributes that newer versions add.
    """

    def __init__(self, tokenizer: VisualTokenizer):
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})
        config = tokenizer.config
        self.first_stage_model = HostTokenizer(tokenizer).eval()
        self.latent_channels = config.codebook_dim
        self.latent_dim = 2
        self.output_channels = 3
        self.downscale_ratio = self.upscale_ratio = config.patch_size
        self.disable_offload = False
        self.working_dtypes = [torch.bfloat16, torch.float32]
        self.vae_dtype = mm.vae_dtype(self.device, self.working_dtypes)
        # Both receive the input's shape: pixels (B, C, H, W), latents (B, d, h, w).
        self.memory_used_encode = lambda shape, _dtype: self.encode_bytes(shape[2] * shape[3])
        self.memory_used_decode = lambda shape, dtype: self.decode_bytes(
            shape[2] * shape[3] * config.patch_size**2, dtype
        )
        self.process_input = lambda image: image * 2.0 - 1.0
        # Modified in place and returned: older ComfyUI versions use the return value.
        self.process_output = lambda image: image.add_(1.0).div_(2.0).clamp_(0.0, 1.0)
        self.patcher = make_patcher(self.first_stage_model, self.device, mm.vae_offload_device())
        self.size = None
        self.model_size()

    @property
    def tokenizer(self) -> VisualTokenizer:
        """The core's VisualTokenizer."""
        return self.first_stage_model.tokenizer

    def get_sd(self) -> dict[str, Tensor]:
        """Return the weights under their names in the model file."""
        return self.tokenizer.state_dict()

    def encode(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the raw features of an IMAGE, encoded in float32."""
        with self._pixels_in_float32():
            return whole_pictures(super().encode(pixel_samples, *args, **kwargs))

    def encode_tiled(self, pixel_samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the same as `encode`, computed in tiles that the host joins."""
        with self._pixels_in_float32():
            return whole_pictures(super().encode_tiled(pixel_samples, *args, **kwargs))

    @contextmanager
    def _pixels_in_float32(self) -> Iterator[None]:
        """Keep pixels in float32: the host casts them to `vae_dtype`, and rounding to bf16 flips bits near zero."""
        decoding, self.vae_dtype = self.vae_dtype, torch.float32
        try:
            yield
        finally:
            self.vae_dtype = decoding

    def decode(self, samples_in: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the IMAGE of a latent; tiles of a restoration are joined into their pictures."""
        if isinstance(samples_in, TileCodes):
            return self.join_tiles(samples_in)
        self._warn_of_tiles(samples_in)
        return super().decode(samples_in, *args, **kwargs)

    def decode_tiled(self, samples: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the same as `decode`, computed in tiles; a restoration already consists of tiles."""
        if isinstance(samples, TileCodes):
            return self.join_tiles(samples)
        self._warn_of_tiles(samples)
        return super().decode_tiled(samples, *args, **kwargs)

    def join_tiles(self, samples: TileCodes) -> Tensor:
        """Return the pictures of tiles as an IMAGE, like VARestorer Decode (Tiled) without colour matching.

        Raises:
            SettingError: if another node moved, resized or split the tiles.
        """
        from .stages import join_latent  # stages.py imports this module

        return join_latent(samples, self)

    def _warn_of_tiles(self, samples: Tensor) -> None:
        """Announce a batch that may be tiles whose places are lost, such as after Save Latent."""
        config = self.tokenizer.config
        tile, _ = get_schedule(1.0, config.pixel_class).pixel_size(config.patch_size)
        side = tile // config.patch_size
        if (
            len(samples) > 1
            and samples.shape[2:] == (side, side)
            and not hasattr(samples, _PICTURES_ATTRIBUTE)
        ):
            announce(
                f"This latent holds {len(samples)} samples of the size of a tile, and each becomes a "
                f"picture of {tile} x {tile} pixels. If they are the tiles of one picture, their places "
                "are lost; Save Latent does not store them. Decode with VARestorer Decode (Tiled) "
                "first, and save the picture."
            )

    def encode_bytes(self, pixels: int) -> int:
        """Return the memory in bytes for encoding that many pixels in float32."""
        return encoder_bytes(self.tokenizer.config, pixels, gpu=self._on_gpu)

    def decode_bytes(self, pixels: int, dtype: torch.dtype) -> int:
        """Return the memory in bytes for decoding to that many pixels."""
        return decoder_bytes(self.tokenizer.config, pixels, dtype, gpu=self._on_gpu)

    @property
    def _on_gpu(self) -> bool:
        return torch.device(self.device).type != "cpu"

    def encode_tiles(self, tiles: Tensor) -> Tensor:
        """Return raw features of tiles (B, 3, T, T) in [-1, 1]; the model must be loaded."""
        return self.first_stage_model.encode(tiles.to(self.device))

    def decode_tiles(self, codes: Tensor) -> Tensor:
        """Return tiles (B, 3, T, T) in [-1, 1] of summed codes; the model must be loaded."""
        return self.first_stage_model.decode(codes.to(self.device, self.vae_dtype)).float()


def load_vae(name: str) -> VARestorerVAE:
    """Return the VAE of a menu entry.

    Raises:
        CheckpointError: if the file is not a VARestorer tokenizer.
    """
    from ...varestorer_core.checkpoint import load_tokenizer

    state_dict, metadata = read_model(VAE_FOLDER, name, BUNDLED_VAES)
    # Weights stay in float32 for the encoder; the layers cast them if the decoder runs in bf16.
    tokenizer = load_tokenizer(
        state_dict,
        metadata,
        name=name,
        operations=comfy.ops.manual_cast,
        dtype=torch.float32,
        device=mm.vae_offload_device(),
        consume=True,
    )
    if hasattr(mm, "archive_model_dtypes"):
        mm.archive_model_dtypes(tokenizer)
    return VARestorerVAE(tokenizer)


def require_tokenizer(vae: object) -> VARestorerVAE:
    """Return the VAE if it is a VARestorerVAE.

    Raises:
        SettingError: for any other VAE.
    """
    if not isinstance(vae, VARestorerVAE):
        raise SettingError(
            "VARestorer needs its own visual tokenizer as VAE, got a VAE of another kind. Connect "
            "the node Load VARestorer VAE."
        )
    return vae
