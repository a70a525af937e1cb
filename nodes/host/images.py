"""Conversion between the host's IMAGE batches (B, H, W, C) and the core's pictures (3, H, W) in [0, 1]."""

from __future__ import annotations

import comfy.model_management as mm
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...varestorer_core.assets import asset_path
from ...varestorer_core.errors import ImageError
from ...varestorer_core.resize import resize_lanczos


def to_pictures(image: Tensor) -> list[Tensor]:
    """Split an IMAGE batch into pictures.

    Args:
        image: (B, H, W, C) with 1 (grey), 3 (RGB) or 4 (RGBA, alpha is dropped) channels.

    Returns:
        B pictures (3, H, W), float32 in [0, 1], on the CPU. Pixels with alpha 0 have the colours of the nearest
        visible pixels.

    Raises:
        ImageError: for another shape, an empty batch, or NaN or infinite values.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ImageError(
            "Expected an IMAGE batch (B, H, W, C) with 1, 3 or 4 channels, got shape "
            f"{tuple(image.shape)}. Connect the output of Load Image or another picture node."
        )
    if 0 in image.shape:
        raise ImageError(
            f"Expected at least one picture, got an empty IMAGE batch of shape {tuple(image.shape)}. "
            "Check the node that makes the batch."
        )
    pixels = image.detach().to(device="cpu", dtype=torch.float32)
    broken = int((~torch.isfinite(pixels)).sum())
    if broken:
        raise ImageError(
            f"{broken} of the picture's {pixels.numel()} values are NaN or infinite. An earlier "
            "node failed, often a model in fp16; run it in bf16 or fp32."
        )
    pictures = torch.empty(len(pixels), 3, *pixels.shape[1:3])
    pictures.copy_(pixels[..., :3].movedim(-1, 1)).clamp_(0, 1)  # BHWC -> BCHW
    alphas = to_alpha(image)
    # Imported here because it imports the readers of picture files, which ComfyUI does not need at startup.
    from ...varestorer_core.pictures import fill_hidden

    return list(pictures) if alphas is None else list(map(fill_hidden, pictures, alphas))


def to_alpha(image: Tensor) -> list[Tensor] | None:
    """Return the alpha channels (1, H, W) of a batch that `to_pictures` accepts, or None."""
    if image.shape[-1] != 4:
        return None
    alpha = image[..., 3:].detach().to(device="cpu", dtype=torch.float32)
    return list(alpha.movedim(-1, 1).clamp(0, 1))


def to_image(pictures: list[Tensor]) -> Tensor:
    """Join pictures (3, H, W) of one size into an IMAGE batch (B, H, W, 3)."""
    channels, *size = pictures[0].shape
    batch = torch.empty(len(pictures), *size, channels)
    for image, picture in zip(batch, pictures, strict=True):
        image.copy_(picture.movedim(0, -1))  # CHW -> HWC
    return to_intermediate(batch.clamp_(0, 1))


def join_alpha(image: Tensor, alpha: list[Tensor] | None) -> Tensor:
    """Add alpha channels (1, h, w), all of the same size, to an IMAGE (B, H, W, 3); None returns it unchanged."""
    if alpha is None:
        return image
    size = (image.shape[1], image.shape[2])
    planes = torch.stack([resize_lanczos(plane, size) for plane in alpha])
    return torch.cat([image, to_intermediate(planes.movedim(1, -1))], dim=-1)  # BCHW -> BHWC


def to_intermediate(tensor: Tensor) -> Tensor:
    """Move a result to the host's device and dtype for intermediate results."""
    dtype = mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32
    return tensor.to(device=mm.intermediate_device(), dtype=dtype)


def read_asset(name: str) -> Tensor:
    """Return a bundled picture as an IMAGE batch of one."""
    with Image.open(asset_path(name)) as file:
        pixels = np.asarray(file.convert("RGB"), dtype=np.float32)
    return to_intermediate(torch.from_numpy(pixels / 255.0)[None])
