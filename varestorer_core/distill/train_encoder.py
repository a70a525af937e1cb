"""Stage 3: the tokenizer's encoder learns to read degraded pictures.

VARestorer's project page says that the student's encoder is fine-tuned. Here it learns to give a degraded picture
the features of the clean one, while the decoder and the meaning of the bits stay as they are, so the teacher stays
valid. For a small model this is the cheap part of restoring: convolutions learn to remove blur and noise in
minutes, and the student starts from bits that are more often right.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..lora.convolution import add_low_rank, merge_low_rank
from ..models.tokenizer import VisualTokenizer
from ..schedule import get_schedule
from .data import random_crops, to_tensor
from .degrade import DEFAULT_MIX, degrade_batch
from .held_out import HeldOut
from .loop import Batch, LoopSettings, Losses, Progress, train
from .losses import (
    deviation_loss,
    feature_distance,
    gradient_similarity,
    psnr,
    reconstruction_loss,
)
from .mixed import mixed_precision


@dataclass(frozen=True)
class EncoderSettings:
    """What the encoder stage does besides the loop."""

    pixel_class: str = "0.25M"
    batch: int = 4
    features: float = 0.3
    """Weight of the squared distance to the clean picture's features, per token."""
    gradient_similarity: float = 1.0
    """Weight of one minus the mean `gradient_similarity`: keeps edges from becoming averages."""
    gradient_deviation: float = 1.0
    """Weight of its deviation, which is GMSD: keeps sharpening from paying off in most places at the cost of a
    few."""
    clean: float = 0.25
    """Share of pictures that are not degraded, so that clean ones keep their bits."""
    rank: int = 0
    """Rank of the corrections that train, one on each convolution; 0 trains every weight, which suits small
    models."""
    degradation: tuple[str, ...] = DEFAULT_MIX
    """Presets; each picture draws one."""
    amp: bool = True
    """bfloat16 autocast of everything but the encoders, on devices that are faster in it."""


def train_encoder(
    folder: Path,
    tokenizer: VisualTokenizer,
    pictures: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    loop: LoopSettings,
    *,
    settings: EncoderSettings | None = None,
    resume: bool = False,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> VisualTokenizer:
    """Return the tokenizer with an encoder fine-tuned on degraded pictures; the decoder is frozen."""
    settings = settings or EncoderSettings()
    schedule = get_schedule(1.0, settings.pixel_class)
    crop = schedule.pixel_size(tokenizer.config.patch_size)[0]
    tokenizer.requires_grad_(False).to(device)
    adapted = copy.deepcopy(tokenizer)
    if settings.rank:
        add_low_rank(adapted.encoder, settings.rank, loop.seed)
    else:
        adapted.encoder.requires_grad_(True)
    autocast = mixed_precision(device, settings.amp)

    batch: Batch = {}

    def step(_: int, generator: torch.Generator) -> Losses:
        clean = random_crops(pictures, settings.batch, crop, generator)
        lq = degrade_batch(clean, settings.degradation, generator)
        kept = torch.rand(settings.batch, generator=generator) < settings.clean
        lq = np.where(kept.numpy()[:, None, None, None], clean, lq)
        images, degraded = to_tensor(clean).to(device), to_tensor(lq).to(device)
        batch.update(clean=images, lq=degraded)
        with torch.no_grad():
            target = tokenizer.encode(images)
        features = adapted.encode(degraded)
        with autocast:
            # Unquantised: straight-through gradients through all scales are too noisy for fine-tuning, and
            # features that decode well also quantise well.
            output = adapted.decoder(features).float()
        reconstruction = reconstruction_loss(output, images)
        distance = feature_distance(features, target)
        similarity = gradient_similarity(output, images)
        edges, deviation = 1 - similarity.mean(), deviation_loss(similarity)
        loss = reconstruction + settings.features * distance
        loss = loss + settings.gradient_similarity * edges
        loss = loss + settings.gradient_deviation * deviation
        return {
            "loss": loss,
            "reconstruction": reconstruction,
            "features": distance,
            "gradient_similarity": edges,
            "gradient_deviation": deviation,
        }

    held_out = HeldOut(folder, validation, device, settings.degradation)

    def evaluate(done: int) -> dict[str, float]:
        with torch.no_grad():
            before, after = tokenizer(held_out.lq, schedule), adapted(held_out.lq, schedule)
            clean = adapted(held_out.clean, schedule)
        held_out.save_sheet(done, [held_out.lq, before, after, held_out.clean])
        return {
            **held_out.figures(after),
            "val_psnr_before": psnr(before, held_out.clean),
            "val_psnr_clean": psnr(clean, held_out.clean),
        }

    train(
        folder,
        {"encoder": adapted.encoder},
        step,
        loop,
        evaluate=evaluate,
        resume=resume,
        on_progress=on_progress,
        batch=batch,
    )
    merge_low_rank(adapted.encoder)
    return adapted.eval()
