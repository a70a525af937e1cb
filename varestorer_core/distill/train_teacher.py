"""Stage 2: the teacher, a block-causal next-scale predictor of clean pictures' bits.

Teacher-forced on pyramids with random bit errors, so that it learns to correct what came before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import TransformerConfig
from ..models.bsq import pyramid_tokens
from ..models.masks import block_causal_mask
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import get_schedule
from .data import random_crops, to_tensor
from .held_out import HeldOut
from .initialise import initialise
from .loop import Batch, LoopSettings, Losses, Progress, train
from .losses import bit_cross_entropy, log_odds, scale_weights
from .mixed import mixed_precision
from .self_correction import MOST_FLIPS, flipped_pyramid

TINY_TRANSFORMER = TransformerConfig(
    embed_dim=96,
    depth=2,
    num_heads=3,
    codebook_dim=64,
    text_channels=64,
    ffn_dim=384,
    text_rows=8,
    pixel_class="0.25M",
)
"""Transformer of the bundled model; its student adds `lq_prior`."""


@dataclass(frozen=True)
class TeacherSettings:
    """What the teacher stage does besides the loop."""

    batch: int = 4
    most_flips: float = MOST_FLIPS
    amp: bool = True
    """bfloat16 autocast, on devices that are faster in it."""


def train_teacher(
    folder: Path,
    tokenizer: VisualTokenizer,
    pictures: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    loop: LoopSettings,
    *,
    config: TransformerConfig = TINY_TRANSFORMER,
    settings: TeacherSettings | None = None,
    resume: bool = False,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> VARTransformer:
    """Train a teacher on pictures (n, S, S, 3) uint8, whose bits the frozen tokenizer gives."""
    settings = settings or TeacherSettings()
    schedule = get_schedule(1.0, config.pixel_class)
    crop = schedule.pixel_size(tokenizer.config.patch_size)[0]
    teacher = VARTransformer(config)
    initialise(teacher, loop.seed)
    teacher.to(device)
    tokenizer.requires_grad_(False).to(device)
    autocast = mixed_precision(device, settings.amp)
    mask = block_causal_mask(schedule, device)
    weights = scale_weights(schedule, torch.device(device))

    def predict(
        features: Tensor, generator: torch.Generator, most_flips: float
    ) -> tuple[Tensor, Tensor]:
        target, seen = flipped_pyramid(features, schedule, generator, most_flips)
        with autocast:
            text = teacher.encode_text()
            logits = teacher(pyramid_tokens(seen, schedule, "short"), text, schedule, mask=mask)
        return logits.float(), target

    def encode(images: Tensor) -> Tensor:
        with torch.no_grad():
            return tokenizer.encode(images)

    batch: Batch = {}

    def step(_: int, generator: torch.Generator) -> Losses:
        images = to_tensor(random_crops(pictures, settings.batch, crop, generator)).to(device)
        batch.update(clean=images)
        logits, target = predict(encode(images), generator, settings.most_flips)
        accuracy = ((log_odds(logits.detach()) > 0) == target).float().mean()
        return {"loss": bit_cross_entropy(logits, target, weights), "accuracy": accuracy}

    held_out = HeldOut(folder, validation, device)

    def evaluate(_: int) -> dict[str, float]:
        with torch.no_grad():
            features = encode(held_out.clean)
            logits, target = predict(features, torch.Generator().manual_seed(0), 0.0)
        right = ((log_odds(logits) > 0) == target).float().mean(dim=(0, 2))
        per_scale = [right[a:b].mean() for a, b in schedule.spans]
        figures = {f"val_accuracy_{k}": float(v) for k, v in enumerate(per_scale)}
        return {"val_loss": float(bit_cross_entropy(logits, target, weights)), **figures}

    train(
        folder,
        {"teacher": teacher},
        step,
        loop,
        evaluate=evaluate,
        resume=resume,
        on_progress=on_progress,
        batch=batch,
    )
    return teacher.eval()
