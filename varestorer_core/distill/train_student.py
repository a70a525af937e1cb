"""Stage 4: the one-step student, distilled from the teacher (VARestorer, section on distillation).

The teacher, block-causal, sees the clean picture's bits; the student, with full cross-scale attention, sees only
the long LQ pyramid and answers in one pass. Loss = per-scale KL between the two bit distributions + MSE and a
perceptual loss on the decoded picture, which gradients reach through straight-through bits, + optionally the
cross entropy of the clean bits: a teacher of a few million parameters is too unsure to be the only guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..models.bsq import dequantize, pyramid_tokens, quantize, resize
from ..models.masks import block_causal_mask
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import ScaleSchedule, get_schedule
from .data import random_crops, to_tensor
from .degrade import DEFAULT_MIX, degrade_batch
from .held_out import HeldOut
from .initialise import student_from_teacher
from .loop import Batch, LoopSettings, Losses, Progress, train
from .losses import bit_cross_entropy, bit_kl, log_odds, psnr, scale_weights
from .perceptual import PerceptualName, perceptual_loss


@dataclass(frozen=True)
class StudentSettings:
    """What the student stage does besides the loop."""

    batch: int = 4
    kl: float = 0.1
    """Weight of the KL to the teacher; 0 leaves the teacher out (an ablation of the paper)."""
    mse: float = 0.25
    perceptual: PerceptualName = "structural"
    """Kind of the perceptual loss; its figures are logged under this name."""
    perceptual_weight: float = 0.5
    cross_entropy: float = 1.0
    """Weight of the cross entropy of the clean bits; 0 is the paper's loss."""
    lora_rank: int = 0
    """Rank of the adapters that train; 0 trains every weight, which suits small models."""
    causal: bool = False
    """Mask the student like the teacher (the paper's ablation without cross-scale attention)."""
    degradation: tuple[str, ...] = DEFAULT_MIX
    """Presets; each picture draws one."""
    amp: bool = True
    """bfloat16 autocast."""


def straight_through_codes(logits: Tensor, schedule: ScaleSchedule) -> Tensor:
    """Return the summed codes (B, d, h, w) of the arg-max bits of logits (B, L, d, 2).

    Gradients take the expected code, 2p - 1, in place of the hard one.
    """
    odds = log_odds(logits)
    soft = odds.sigmoid()
    bits = (odds > 0).to(soft) + soft - soft.detach()
    codes = (bits * 2 - 1) * logits.shape[-2] ** -0.5
    summed: Tensor | float = 0.0
    for (start, stop), grid in zip(schedule.spans, schedule.grids, strict=True):
        part = codes[:, start:stop].transpose(1, 2).unflatten(2, grid)
        summed = summed + resize(part, schedule.last_grid)
    assert isinstance(summed, Tensor)
    return summed


def train_student(
    folder: Path,
    tokenizer: VisualTokenizer,
    lq_tokenizer: VisualTokenizer,
    teacher: VARTransformer,
    pictures: NDArray[np.uint8],
    validation: NDArray[np.uint8],
    loop: LoopSettings,
    *,
    settings: StudentSettings | None = None,
    resume: bool = False,
    device: str = "cpu",
    on_progress: Progress | None = None,
) -> VARTransformer:
    """Distil a student from a frozen teacher on pictures (n, S, S, 3) uint8.

    Args:
        tokenizer: gives the clean pictures' bits and decodes.
        lq_tokenizer: reads the degraded pictures; the same, or with an encoder from `train_encoder`.
    """
    settings = settings or StudentSettings()
    schedule = get_schedule(1.0, teacher.config.pixel_class)
    crop = schedule.pixel_size(tokenizer.config.patch_size)[0]
    teacher.requires_grad_(False).to(device)
    tokenizer.requires_grad_(False).to(device)
    lq_tokenizer.requires_grad_(False).to(device)
    student = student_from_teacher(teacher, settings.lora_rank, loop.seed)
    causal = block_causal_mask(schedule, device)
    weights = scale_weights(schedule, torch.device(device))
    perceptual = perceptual_loss(settings.perceptual, device)
    autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=settings.amp)

    def to_bits(images: Tensor, reader: VisualTokenizer) -> Tensor:
        with torch.no_grad(), autocast:
            features = reader.encode(images)
        return quantize(features.float(), schedule).bits

    def predict(lq_bits: Tensor) -> Tensor:
        variant = "short" if settings.causal else "long"
        mask = causal if settings.causal else None
        with autocast:
            tokens = pyramid_tokens(lq_bits, schedule, variant)
            return student(
                tokens, student.encode_text(), schedule, mask=mask, lq_bits=lq_bits
            ).float()

    batch: Batch = {}

    def step(_: int, generator: torch.Generator) -> Losses:
        clean = random_crops(pictures, settings.batch, crop, generator)
        lq = degrade_batch(clean, settings.degradation, generator)
        images, degraded = to_tensor(clean).to(device), to_tensor(lq).to(device)
        batch.update(clean=images, lq=degraded)
        bits = to_bits(images, tokenizer)
        logits = predict(to_bits(degraded, lq_tokenizer))
        with autocast:
            output = tokenizer.decoder(straight_through_codes(logits, schedule)).float()
        losses: Losses = {
            "mse": F.mse_loss(output, images),
            settings.perceptual: perceptual(output, images),
        }
        loss = settings.mse * losses["mse"]
        loss = loss + settings.perceptual_weight * losses[settings.perceptual]
        if settings.kl:
            with torch.no_grad(), autocast:
                tokens = pyramid_tokens(bits, schedule, "short")
                target = teacher(tokens, teacher.encode_text(), schedule, mask=causal).float()
            losses["kl"] = bit_kl(target, logits, weights)
            loss = loss + settings.kl * losses["kl"]
        if settings.cross_entropy:
            losses["cross_entropy"] = bit_cross_entropy(logits, bits, weights)
            loss = loss + settings.cross_entropy * losses["cross_entropy"]
        losses["accuracy"] = ((log_odds(logits.detach()) > 0) == bits).float().mean()
        return {"loss": loss, **losses}

    held_out = HeldOut(folder, validation, device, settings.degradation)

    def evaluate(done: int) -> dict[str, float]:
        with torch.no_grad():
            lq_bits, bits = to_bits(held_out.lq, lq_tokenizer), to_bits(held_out.clean, tokenizer)
            restored_bits = log_odds(predict(lq_bits)) > 0
            restored = tokenizer.decode(dequantize(restored_bits, schedule))
            copied = tokenizer.decode(dequantize(lq_bits, schedule))
        held_out.save_sheet(done, [held_out.lq, copied, restored, held_out.clean])
        return {
            **held_out.figures(restored),
            "val_psnr_copied": psnr(copied, held_out.clean),
            "val_accuracy": float((restored_bits == bits).float().mean()),
            "val_accuracy_copied": float((lq_bits == bits).float().mean()),
        }

    train(
        folder,
        {"student": student},
        step,
        loop,
        evaluate=evaluate,
        resume=resume,
        on_progress=on_progress,
        batch=batch,
    )
    return student.eval()
