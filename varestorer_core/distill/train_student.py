"""Stage 4: the one-step student, distilled from the teacher (VARestorer, section on distillation).

The teacher, block-causal, sees the clean picture's bits; the student, with full cross-scale attention, sees only
the long LQ pyramid and answers in one pass. Loss = per-scale KL between the two bit distributions + MSE and a
perceptual loss on the decoded picture, which gradients reach through straight-through bits, + optionally the
cross entropy of the clean bits.

With adapters, teacher and student are the same tensors (`adapters`), so the teacher costs no memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import SettingError
from ..models.bsq import add_scale, dequantize, pyramid_tokens, quantize
from ..models.masks import block_causal_mask
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import ScaleSchedule, get_schedule
from .adapters import adapters_of, save_activations, student_on_teacher, trainable_parameters
from .data import to_tensor
from .degrade import DEFAULT_MIX, degrade_batch
from .held_out import HeldOut
from .initialise import student_from_teacher
from .loop import Batch, LoopSettings, Losses, Progress, train
from .losses import bit_cross_entropy, bit_kl, log_odds, psnr, scale_weights
from .mixed import mixed_precision
from .perceptual import PerceptualName, check_perceptual, perceptual_loss
from .picture_folder import PictureSource, draw_crops
from .processes import ALONE, Processes

_log = logging.getLogger(__name__)


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
    cross_entropy: float = 0.0
    """Weight of the cross entropy of the clean bits, which the paper's loss does not have."""
    lora_rank: int = 0
    """Rank of the adapters that train; 0 trains every weight, which suits small models."""
    causal: bool = False
    """Mask the student like the teacher (the paper's ablation without cross-scale attention)."""
    degradation: tuple[str, ...] = DEFAULT_MIX
    """Presets; each picture draws one."""
    amp: bool = True
    """bfloat16 autocast on devices that are faster in it, except of the encoder and of a transformer that has
    bfloat16 weights already."""
    checkpointing: bool = False
    """Compute the inside of each block again in the backward pass instead of keeping it."""

    def __post_init__(self) -> None:
        check_perceptual(self.perceptual)
        weights = (self.kl, self.mse, self.perceptual_weight, self.cross_entropy)
        if min(weights) < 0 or not any(weights):
            raise SettingError(
                "the weights of the losses must be 0 or more, and at least one of them above 0, got KL "
                f"{weights[0]:g}, MSE {weights[1]:g}, perceptual {weights[2]:g}, cross entropy {weights[3]:g}."
            )

    @property
    def decodes(self) -> bool:
        """Whether a loss looks at the picture."""
        return bool(self.mse or self.perceptual_weight)


def straight_through_codes(logits: Tensor, schedule: ScaleSchedule) -> Tensor:
    """Return the summed codes (B, d, h, w) of the arg-max bits of logits (B, L, d, 2).

    Gradients take the expected code, 2p - 1, in place of the hard one.
    """
    odds = log_odds(logits)
    soft = odds.sigmoid()
    bits = (odds > 0).to(soft) + soft - soft.detach()
    codes = (bits * 2 - 1) * logits.shape[-2] ** -0.5
    summed: Tensor | None = None
    for scale_idx, (start, stop) in enumerate(schedule.spans):
        summed = add_scale(summed, codes[:, start:stop], schedule, scale_idx)
    assert summed is not None
    return summed


def train_student(
    folder: Path,
    tokenizer: VisualTokenizer,
    lq_tokenizer: VisualTokenizer,
    teacher: VARTransformer,
    pictures: PictureSource,
    validation: NDArray[np.uint8],
    loop: LoopSettings,
    *,
    settings: StudentSettings | None = None,
    resume: bool = False,
    device: str = "cpu",
    on_progress: Progress | None = None,
    prompt: Tensor | None = None,
    processes: Processes = ALONE,
) -> VARTransformer:
    """Distil a student from a frozen teacher.

    Args:
        tokenizer: gives the clean pictures' bits and decodes.
        lq_tokenizer: reads the degraded pictures; the same, or with an encoder from `train_encoder`.
        pictures: squares (n, S, S, 3) uint8, or a folder.
        validation: (n, T, T, 3) uint8, T the side of a tile.
        prompt: (1, T, text_channels) text features for all pictures; None takes the learned embedding of no
            prompt.
        processes: that train together; each draws pictures of its own and keeps its own state.
    """
    settings = settings or StudentSettings()
    schedule = get_schedule(1.0, teacher.config.pixel_class)
    crop = schedule.pixel_size(tokenizer.config.patch_size)[0]
    teacher.requires_grad_(False).to(device)
    tokenizer.requires_grad_(False).to(device)
    lq_tokenizer.requires_grad_(False).to(device)
    trained, student = _student(teacher, settings, loop.seed)
    processes.average_gradients(trained)
    folder, loop = processes.folder(folder), replace(loop, seed=loop.seed + processes.index)
    if settings.checkpointing:
        save_activations(student)
        save_activations(tokenizer.decoder)
    teacher_text = teacher.encode_text(prompt)
    causal = block_causal_mask(schedule, device).to(teacher.compute_dtype)
    weights = scale_weights(schedule, torch.device(device))
    perceptual = perceptual_loss(settings.perceptual, device)
    autocast = mixed_precision(device, settings.amp)
    # What has bfloat16 weights chooses its own types: text and head are to stay in float32.
    mixed = settings.amp and teacher.compute_dtype == torch.float32
    transformer_autocast = mixed_precision(device, mixed)

    def to_bits(images: Tensor, reader: VisualTokenizer) -> Tensor:
        with torch.no_grad():
            return quantize(reader.encode(images), schedule).bits

    def predict(lq_bits: Tensor) -> Tensor:
        variant = "short" if settings.causal else "long"
        mask = causal if settings.causal else None
        with transformer_autocast:
            tokens = pyramid_tokens(lq_bits, schedule, variant)
            text = student.encode_text(prompt)
            return student(tokens, text, schedule, mask=mask, lq_bits=lq_bits).float()

    batch: Batch = {}

    def step(_: int, generator: torch.Generator) -> Losses:
        clean = draw_crops(pictures, settings.batch, crop, generator)
        lq = degrade_batch(clean, settings.degradation, generator)
        images, degraded = to_tensor(clean).to(device), to_tensor(lq).to(device)
        batch.update(clean=images, lq=degraded)
        bits = to_bits(images, tokenizer)
        logits = predict(to_bits(degraded, lq_tokenizer))
        losses: Losses = {}
        loss = torch.zeros((), device=device)
        if settings.decodes:
            with autocast:
                output = tokenizer.decoder(straight_through_codes(logits, schedule)).float()
            losses["mse"] = F.mse_loss(output, images)
            losses[settings.perceptual] = perceptual(output, images)
            loss = settings.mse * losses["mse"]
            loss = loss + settings.perceptual_weight * losses[settings.perceptual]
        if settings.kl:
            with torch.no_grad(), transformer_autocast:
                tokens = pyramid_tokens(bits, schedule, "short")
                target = teacher(tokens, teacher_text, schedule, mask=causal).float()
            losses["kl"] = bit_kl(target, logits, weights)
            loss = loss + settings.kl * losses["kl"]
        if settings.cross_entropy:
            losses["cross_entropy"] = bit_cross_entropy(logits, bits, weights)
            loss = loss + settings.cross_entropy * losses["cross_entropy"]
        losses["accuracy"] = ((log_odds(logits.detach()) > 0) == bits).float().mean()
        return {"loss": loss, **losses}

    held_out = HeldOut(folder, validation, device, settings.degradation)

    def evaluate(done: int) -> dict[str, float]:
        parts: list[tuple[Tensor, ...]] = []
        with torch.no_grad():
            for lq, clean in zip(
                held_out.lq.split(settings.batch), held_out.clean.split(settings.batch), strict=True
            ):
                lq_bits, bits = to_bits(lq, lq_tokenizer), to_bits(clean, tokenizer)
                restored_bits = log_odds(predict(lq_bits)) > 0
                pictures = [
                    tokenizer.decode(dequantize(b, schedule)) for b in (restored_bits, lq_bits)
                ]
                parts.append((*pictures, restored_bits == bits, lq_bits == bits))
        restored, copied, right, right_copied = (torch.cat(p) for p in zip(*parts, strict=True))
        held_out.save_sheet(done, [held_out.lq, copied, restored, held_out.clean])
        return {
            **held_out.figures(restored),
            "val_psnr_copied": psnr(copied, held_out.clean),
            "val_accuracy": float(right.float().mean()),
            "val_accuracy_copied": float(right_copied.float().mean()),
        }

    train(
        folder,
        {"student": trained},
        step,
        loop,
        evaluate=evaluate if processes.first else None,
        resume=resume,
        on_progress=on_progress if processes.first else None,
        batch=batch,
    )
    return student.eval()


def _student(
    teacher: VARTransformer, settings: StudentSettings, seed: int
) -> tuple[nn.Module, VARTransformer]:
    """Return what trains, which is what the state holds, and the student that it is part of."""
    if settings.lora_rank:
        student = student_on_teacher(teacher, settings.lora_rank, seed)
        trained = adapters_of(student)
    else:
        student = trained = student_from_teacher(teacher, 0, seed)
    _log.info(
        "trainable parameters: %s of %s",
        f"{trainable_parameters(trained):,}",
        f"{sum(p.numel() for p in student.parameters()):,}",
    )
    return trained, student
