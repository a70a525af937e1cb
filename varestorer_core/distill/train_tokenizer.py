"""Stage 1: the visual tokenizer.

What decides success at this size (measured, see docs/tiny-model.md): the skip path trained alone first
(`skip_start`); GroupNorm with 8 channels a group or more; residuals against the detached sum. Small crops first
(more pictures per second of a batch), then crops of the tile size with the schedule that inference uses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import TokenizerConfig
from ..models.bsq import quantize
from ..models.tokenizer import VisualTokenizer
from ..schedule import ScaleSchedule, get_schedule
from .data import random_crops, to_tensor
from .entropy import entropy_loss
from .held_out import HeldOut
from .loop import Batch, LoopSettings, Losses, Progress, train
from .losses import feature_distance, psnr, reconstruction_loss
from .mixed import mixed_precision
from .skip_start import SkipSettings, fit_skip_path

TINY_TOKENIZER = TokenizerConfig(
    codebook_dim=64,
    base_channels=16,
    channel_multipliers=(1, 2, 6),
    num_res_blocks=1,
    norm_groups=2,
)
"""Tokenizer of the bundled model: 4 pixels a token."""


@dataclass(frozen=True)
class TokenizerSettings:
    """What the tokenizer stage does besides the loop."""

    pixel_class: str = "0.25M"
    batch: int = 8
    """Crops a step while they are small; as many pixels when they are whole tiles."""
    small_scales: int = 7
    """Scales of the small crops: 7 means 16 x 16 tokens."""
    small_until: float = 0.6
    """Part of the run on small crops."""
    skip: SkipSettings = field(default_factory=SkipSettings)
    """How the starting values are found; its steps are not counted among the loop's and never exceed them."""
    commitment: float = 0.1
    """Weight of the squared distance between features and summed codes, per token."""
    entropy: float = 0.0
    """Weight of the entropy term, see `entropy`; the bundled model was trained without."""
    entropy_gamma: float = 1.0
    """How much using every bit both ways counts in it."""
    amp: bool = True
    """bfloat16 autocast of everything but the encoder, on devices that are faster in it."""


def prefix_schedule(schedule: ScaleSchedule, num_scales: int) -> ScaleSchedule:
    """Return the schedule cut to its first scales, for pictures smaller than a tile."""
    return dataclasses.replace(schedule, grids=schedule.full_grids[:num_scales])


def train_tokenizer(
    folder: Path,
    pictures: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    loop: LoopSettings,
    *,
    config: TokenizerConfig = TINY_TOKENIZER,
    settings: TokenizerSettings | None = None,
    resume: bool = False,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> VisualTokenizer:
    """Train a tokenizer on pictures (n, S, S, 3) uint8; validation pictures have the size of a tile.

    Returns:
        The trained tokenizer; its state is in `folder`.
    """
    settings = settings or TokenizerSettings()
    tokenizer = VisualTokenizer(config)
    # Channels-last convolutions are a tenth faster on the CPU at these widths.
    tokenizer.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    whole = get_schedule(1.0, settings.pixel_class)
    small = prefix_schedule(whole, settings.small_scales)
    if not (resume and (folder / "state.pt").exists()):
        skip = dataclasses.replace(settings.skip, steps=min(settings.skip.steps, loop.steps))
        fit_skip_path(tokenizer, pictures, small, loop.seed, settings=skip)

    batch: Batch = {}

    def step(index: int, generator: torch.Generator) -> Losses:
        progress = index / loop.steps
        schedule = small if progress < settings.small_until else whole
        crop = schedule.pixel_size(config.patch_size)[0]
        count = max(1, settings.batch * small.sizes[-1] // schedule.sizes[-1])
        images = to_tensor(random_crops(pictures, count, crop, generator)).to(device)
        batch.update(clean=images)
        return _losses(tokenizer, images, schedule, settings)

    held_out = HeldOut(folder, validation, device)

    def evaluate(done: int) -> dict[str, float]:
        with torch.no_grad():
            features = tokenizer.encode(held_out.clean)
            continuous = tokenizer.decode(features)
            output = tokenizer.decode(quantize(features, whole).summed_codes)
        held_out.save_sheet(done, [held_out.clean, output])
        return {
            "val_psnr": psnr(output, held_out.clean),
            "val_psnr_continuous": psnr(continuous, held_out.clean),
        }

    train(
        folder,
        {"tokenizer": tokenizer},
        step,
        loop,
        evaluate=evaluate,
        resume=resume,
        on_progress=on_progress,
        batch=batch,
    )
    return tokenizer.eval()


def _losses(
    tokenizer: VisualTokenizer,
    images: Tensor,
    schedule: ScaleSchedule,
    settings: TokenizerSettings,
) -> Losses:
    """Reconstruct images (B, 3, H, W) through the bits."""
    features = tokenizer.encoder(images)
    pyramid = quantize(features, schedule, straight_through=True)
    with mixed_precision(images.device, settings.amp):
        output = tokenizer.decoder(pyramid.summed_codes)
    reconstruction = reconstruction_loss(output.float(), images)
    # Keeps features where the codes can reach them.
    commitment = feature_distance(features, pyramid.summed_codes)
    loss = reconstruction + settings.commitment * commitment
    losses = {"reconstruction": reconstruction, "commitment": commitment}
    if settings.entropy:
        entropy = entropy_loss(features, pyramid.bits, schedule, settings.entropy_gamma)
        losses["entropy"] = entropy
        loss = loss + settings.entropy * entropy
    return {"loss": loss, **losses}
