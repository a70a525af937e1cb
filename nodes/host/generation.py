"""Text-to-image generation on the host's models: the multi-step teacher returns a LATENT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management as mm
import torch
from torch import Tensor

from ...varestorer_core.schedule import PIXEL_CLASSES, RATIOS, ScaleSchedule, get_schedule
from .images import to_intermediate
from .model import tile_bytes
from .progress import Progress
from .stages import text_features
from .vae import whole_pictures

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

# The schedules' ratios are height / width; the menu shows width : height.
_NAMED = {
    1.0: "1:1",
    0.8: "5:4",
    1.25: "4:5",
    0.75: "4:3",
    1.333: "3:4",
    0.666: "3:2",
    1.5: "2:3",
    0.571: "7:4",
    1.75: "4:7",
    0.5: "2:1",
    2.0: "1:2",
    0.4: "5:2",
    2.5: "2:5",
    0.333: "3:1",
    3.0: "1:3",
}
RATIO_NAMES = {name: ratio for ratio, name in _NAMED.items() if ratio in RATIOS}
"""Menu entry (width : height) to the ratio of a schedule."""

PIXELS = ("auto", *PIXEL_CLASSES)
"""Menu of picture sizes; "auto" uses the size stored in the model file."""


def generate_latent(
    patcher: ModelPatcher,
    conditioning: list | None,
    negative: list | None,
    *,
    ratio: str,
    pixels: str,
    cfg: float,
    tau: float,
    top_k: int,
    top_p: float,
    seed: int,
    batch_size: int,
) -> dict[str, Tensor]:
    """Return the LATENT (B, d, h, w) of generated pictures.

    Picture i of a batch uses the seed `seed` + i and is generated separately, so it does not depend on
    the batch size, and a batch needs no more memory than one picture.
    """
    from ...varestorer_core.models.bsq import dequantize
    from ...varestorer_core.models.generation import generate

    transformer = patcher.model
    config = transformer.config
    pixel_class = config.pixel_class if pixels == "auto" else pixels
    schedule = get_schedule(RATIO_NAMES[ratio], pixel_class)
    text = _prompt(conditioning, config.text_channels)
    against = _prompt(negative, config.text_channels)
    if text is None and against is None:
        cfg = 1.0  # guidance is off
    progress = Progress()
    need = _bytes(patcher, schedule, guided=cfg != 1)
    mm.load_models_gpu([patcher], memory_required=need)
    steps = batch_size * schedule.num_scales
    codes = []
    for index in range(batch_size):

        def on_scale(scale_idx: int, *_: Tensor, before: int = index * schedule.num_scales) -> None:
            progress(before + scale_idx + 1, steps)

        bits = generate(
            transformer,
            schedule,
            text=text,
            negative=against,
            cfg=cfg,
            tau=tau,
            top_k=top_k,
            top_p=top_p,
            generator=torch.Generator().manual_seed((seed + index) % 2**64),
            device=patcher.load_device,
            on_scale=on_scale,
        )
        codes.append(dequantize(bits.cpu(), schedule))
    return {"samples": whole_pictures(to_intermediate(torch.cat(codes)))}


def _prompt(conditioning: list | None, channels: int) -> Tensor | None:
    """Return the features (1, T, channels) of a CONDITIONING without its padding."""
    features, mask = text_features(conditioning, channels)
    return (
        features if features is None or mask is None else features[:, mask[0].to(features.device)]
    )


def _bytes(patcher: ModelPatcher, schedule: ScaleSchedule, *, guided: bool) -> int:
    """Return the memory in bytes of one picture: activations of the finest scale, and the key/value cache."""
    config = patcher.model.config
    size = patcher.model.compute_dtype.itemsize
    # One layer's keys and values briefly exist twice, while they are concatenated.
    cached = 2 * (config.depth + 1) * schedule.num_tokens * config.embed_dim * size
    work = tile_bytes(patcher, schedule.sizes[-1], schedule.num_tokens)
    return (1 + guided) * (work + cached)
