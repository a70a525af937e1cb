"""Stage 4: the one-step student, distilled from the teacher (VARestorer, section on distillation).

The input of the block-causal teacher is the clean picture's bits; that of the student, with full cross-scale
attention, is only the long LQ pyramid, and it predicts all bits in one pass. Loss = per-scale KL between the two bit
distributions + MSE and a perceptual loss on the decoded picture, which gradients reach through straight-through bits,
+ optionally the cross entropy of the clean bits.

With adapters, teacher and student are the same tensors (`adapters`), so the teacher costs no memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..models.bsq import add_scale, dequantize, pyramid_tokens, quantize
from ..models.masks import block_causal_mask
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import ScaleSchedule, get_schedule
from .adapters import adapters_of, save_activations, student_on_teacher, trainable_parameters
from .adversary import Adversary
from .batches import Batch, Draw
from .degrade import DEFAULT_MIX
from .held_out import RESTORED, HeldOut, Measured, sheet_path
from .initialise import student_from_teacher
from .losses import bit_cross_entropy, bit_kl, log_odds, scale_weights
from .mixed import mixed_precision
from .perceptual import PerceptualName, check_perceptual, perceptual_loss
from .processes import ALONE, Processes
from .stage import Losses

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudentSettings:
    """Settings of the student stage besides those of the loop."""

    batch: int = 4
    kl: float = 0.1
    """Weight of the KL divergence from the teacher; 0 omits the teacher (an ablation of the paper)."""
    mse: float = 0.25
    perceptual: PerceptualName = "structural"
    """Kind of the perceptual loss; it is logged under this name."""
    perceptual_weight: float = 0.5
    cross_entropy: float = 0.0
    """Weight of the cross entropy of the clean bits, which is not part of the paper's loss."""
    adversarial: float = 0.0
    """Weight of the adversarial loss, see `adversary`, which is not part of the paper's loss."""
    adversarial_from: int = 150
    """First step with the adversarial loss."""
    lora_rank: int = 0
    """Rank of the trained adapters; 0 trains every weight, which suits small models."""
    train_decoder: bool = False
    """Train the decoder together with the student, so that each adapts to the other."""
    causal: bool = False
    """Mask the student like the teacher (the paper's ablation without cross-scale attention)."""
    degradation: tuple[str, ...] = DEFAULT_MIX
    """Presets, one of which is drawn for each picture."""
    amp: bool = True
    """bfloat16 autocast on devices that are faster with it, except for the encoder and for a transformer with bfloat16
    weights."""
    checkpointing: bool = False
    """Recompute the activations of each block in the backward pass instead of storing them."""

    def __post_init__(self) -> None:
        check_perceptual(self.perceptual)
        weights = (self.kl, self.mse, self.perceptual_weight, self.cross_entropy)
        if min(*weights, self.adversarial) < 0 or not any(weights):
            raise SettingError(
                "The weights of the losses must be 0 or more, and at least one of them above 0, got KL "
                f"{weights[0]:g}, MSE {weights[1]:g}, perceptual {weights[2]:g}, cross entropy {weights[3]:g}."
            )
        if self.train_decoder and not self.decodes:
            raise SettingError(
                "Training the decoder with the student needs a loss of the picture. Expected an MSE or a perceptual "
                "weight above 0, got 0 for both."
            )

    @property
    def decodes(self) -> bool:
        """Whether a loss uses the decoded picture."""
        return bool(self.mse or self.perceptual_weight or self.adversarial)


def straight_through_codes(logits: Tensor, schedule: ScaleSchedule) -> Tensor:
    """Return the summed codes (B, d, h, w) of the arg-max bits of logits (B, L, d, 2).

    Gradients are those of the expected code, 2p - 1, instead of the hard one.
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


class StudentStage:
    """Distils a student from a frozen teacher."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        lq_tokenizer: VisualTokenizer,
        teacher: VARTransformer,
        seed: int,
        held_out: HeldOut,
        *,
        settings: StudentSettings | None = None,
        device: str = "cpu",
        prompt: Tensor | None = None,
        processes: Processes = ALONE,
    ):
        """Create a student from the teacher.

        Args:
            tokenizer: encodes the clean pictures.
            lq_tokenizer: encodes the degraded pictures, and decodes; the same, or with an encoder from
                `EncoderStage` and a decoder from `DecoderStage`.
            seed: seed of the student's initial values.
            held_out: degraded and clean pictures of the size of a tile.
            prompt: (1, T, text_channels) text features for all pictures; None uses the learned embedding of no
                prompt.
            processes: processes that train together, on their own pictures.
        """
        self.settings = settings = settings or StudentSettings()
        self.held_out, self.prompt = held_out, prompt
        self.schedule = get_schedule(1.0, teacher.config.pixel_class)
        self.teacher = teacher.requires_grad_(False).to(device)
        self.tokenizer = tokenizer.requires_grad_(False).to(device)
        self.lq_tokenizer = lq_tokenizer.requires_grad_(False).to(device)
        trained, self.student = _student(teacher, settings, seed)
        processes.average_gradients(trained)
        self.modules: dict[str, nn.Module] = {"student": trained}
        if settings.train_decoder:
            self.modules["decoder"] = self.lq_tokenizer.decoder.requires_grad_(True)
            processes.average_gradients(self.lq_tokenizer.decoder)
        self.networks: tuple[nn.Module, ...] = (
            self.tokenizer,
            self.lq_tokenizer,
            self.teacher,
            self.student,
        )
        self.adversary: Adversary | None = None
        if settings.adversarial:
            self.adversary = Adversary(seed, device=device)
            self.modules["adversary"] = self.adversary
        if settings.checkpointing:
            save_activations(self.student)
            save_activations(lq_tokenizer.decoder)
        self.teacher_text = teacher.encode_text(prompt)
        self.causal = block_causal_mask(self.schedule, device).to(teacher.compute_dtype)
        self.weights = scale_weights(self.schedule, torch.device(device))
        self.perceptual = perceptual_loss(settings.perceptual, device)
        self.autocast = mixed_precision(device, settings.amp)
        # A network with bfloat16 weights chooses its own dtypes: text and head must stay in float32.
        mixed = settings.amp and teacher.compute_dtype == torch.float32
        self.transformer_autocast = mixed_precision(device, mixed)

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Degraded tiles."""
        crop = self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]
        return (Draw(self.settings.batch, crop, self.settings.degradation),)

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a one-step restoration."""
        images, settings = batch["clean"], self.settings
        bits = self._bits(images, self.tokenizer)
        logits = self._predict(self._bits(batch["lq"], self.lq_tokenizer))
        losses: Losses = {}
        loss = torch.zeros((), device=images.device)
        if settings.decodes:
            with self.autocast:
                codes = straight_through_codes(logits, self.schedule)
                output = self.lq_tokenizer.decoder(codes).float()
            losses["mse"] = F.mse_loss(output, images)
            losses[settings.perceptual] = self.perceptual(output, images)
            loss = settings.mse * losses["mse"]
            loss = loss + settings.perceptual_weight * losses[settings.perceptual]
            if self.adversary is not None:
                losses["discriminator"] = self.adversary.learn(images, output, batch["lq"])
                losses["adversarial"] = self.adversary.judge(output, batch["lq"])
                if step >= settings.adversarial_from:
                    loss = loss + settings.adversarial * losses["adversarial"]
        if settings.kl:
            losses["kl"] = bit_kl(self._teach(bits), logits, self.weights)
            loss = loss + settings.kl * losses["kl"]
        if settings.cross_entropy:
            losses["cross_entropy"] = bit_cross_entropy(logits, bits, self.weights)
            loss = loss + settings.cross_entropy * losses["cross_entropy"]
        losses["accuracy"] = ((log_odds(logits.detach()) > 0) == bits).float().mean()
        return {"loss": loss, **losses}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Evaluate restored pictures and, for comparison, the decoded bits of the degraded ones."""

        def restore(lq: Tensor, clean: Tensor) -> Measured:
            lq_bits, bits = self._bits(lq, self.lq_tokenizer), self._bits(clean, self.tokenizer)
            restored_bits = log_odds(self._predict(lq_bits)) > 0
            copied, restored = (
                self.lq_tokenizer.decode(dequantize(b, self.schedule))
                for b in (lq_bits, restored_bits)
            )
            accuracy = {
                "val_accuracy": (restored_bits == bits).float().mean(),
                "val_accuracy_copied": (lq_bits == bits).float().mean(),
            }
            return {"lq": lq, "copied": copied, RESTORED: restored}, accuracy

        return self.held_out.measure(restore, sheet_path(folder, step))

    def _bits(self, images: Tensor, reader: VisualTokenizer) -> Tensor:
        """Return the bits (B, L, d) of images (B, 3, H, W)."""
        with torch.no_grad():
            return quantize(reader.encode(images), self.schedule).bits

    def _predict(self, lq_bits: Tensor) -> Tensor:
        """Return the student's logits (B, L, d, 2)."""
        variant = "short" if self.settings.causal else "long"
        mask = self.causal if self.settings.causal else None
        with self.transformer_autocast:
            tokens = pyramid_tokens(lq_bits, self.schedule, variant)
            text = self.student.encode_text(self.prompt)
            return self.student(tokens, text, self.schedule, mask=mask, lq_bits=lq_bits).float()

    def _teach(self, bits: Tensor) -> Tensor:
        """Return the teacher's logits (B, L, d, 2) on the clean pictures' bits."""
        with torch.no_grad(), self.transformer_autocast:
            tokens = pyramid_tokens(bits, self.schedule, "short")
            return self.teacher(tokens, self.teacher_text, self.schedule, mask=self.causal).float()


def _student(
    teacher: VARTransformer, settings: StudentSettings, seed: int
) -> tuple[nn.Module, VARTransformer]:
    """Return the trained module, which is stored in the state, and the student that it is part of."""
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
