"""Fine-tuning of the tokenizer's decoder on the bits of degraded pictures, or of the student's results.

The tokenizer stage trains the decoder only on the bits of clean pictures. Those of degraded pictures have systematic
errors, which the decoder can learn to compensate. The meaning of the bits does not change, so teacher and student
remain valid.

With the optional adversarial loss (`adversary`), the decoder commits to details instead of averaging: pictures become
crisp, but less faithful.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.bsq import dequantize, pyramid_tokens, quantize
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import get_schedule
from .adversary import Adversary
from .batches import Batch, Draw
from .degrade import DEFAULT_MIX
from .held_out import RESTORED, HeldOut, Measured, sheet_path
from .loop import LoopSettings
from .losses import deviation_loss, gradient_similarity, log_odds, reconstruction_loss
from .mixed import mixed_precision
from .stage import Losses


@dataclass(frozen=True)
class DecoderSettings:
    """Settings of a decoder stage besides those of the loop."""

    pixel_class: str = "0.25M"
    batch: int = 4
    gradient_similarity: float = 1.0
    """Weight of one minus the mean `gradient_similarity`."""
    gradient_deviation: float = 1.0
    """Weight of its deviation, which is GMSD."""
    adversarial: float = 0.0
    """Weight of the adversarial loss; 0 trains without a discriminator."""
    adversarial_from: int = 150
    """First step with the adversarial loss; before, only the discriminator is trained."""
    clean: float = 0.1
    """Fraction of pictures that are not degraded."""
    degradation: tuple[str, ...] = DEFAULT_MIX
    """Presets, one of which is drawn for each picture."""
    amp: bool = True
    """bfloat16 autocast of everything but the encoder, on devices that are faster with it."""


CRISP = DecoderSettings(gradient_similarity=0.5, gradient_deviation=0.0, adversarial=0.05)
"""Settings of the crisp decoder."""


class DecoderStage:
    """Fine-tunes a decoder; the encoder, and the student if there is one, are frozen."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        loop: LoopSettings,
        held_out: HeldOut,
        *,
        student: VARTransformer | None = None,
        settings: DecoderSettings | None = None,
        device: str = "cpu",
    ):
        """Freeze everything but the decoder.

        Args:
            tokenizer: tokenizer whose encoder encodes degraded pictures and whose decoder is trained in place.
            held_out: degraded and clean pictures of the size of a tile.
            student: network whose bits are decoded; None decodes the encoder's own.
        """
        self.settings = settings = settings or DecoderSettings()
        self.held_out = held_out
        self.schedule = get_schedule(1.0, settings.pixel_class)
        self.tokenizer = tokenizer.requires_grad_(False).to(device)
        self.tokenizer.decoder.requires_grad_(True)
        self.student = None if student is None else student.requires_grad_(False).to(device)
        self.text = None if self.student is None else self.student.encode_text()
        self.autocast = mixed_precision(device, settings.amp)
        self.modules: dict[str, nn.Module] = {"decoder": self.tokenizer.decoder}
        self.networks: tuple[nn.Module, ...] = (self.tokenizer,)
        if self.student is not None:
            self.networks = (self.tokenizer, self.student)
        self.adversary: Adversary | None = None
        if settings.adversarial:
            rate = 2 * loop.learning_rate
            self.adversary = Adversary(loop.seed, learning_rate=rate, device=device)
            self.modules["adversary"] = self.adversary

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Tiles, a fraction of which stays clean."""
        wanted = self.settings
        crop = self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]
        return (Draw(wanted.batch, crop, wanted.degradation, wanted.clean),)

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of decoding a degraded picture's bits."""
        images, lq, settings = batch["clean"], batch["lq"], self.settings
        codes = dequantize(self._bits(lq), self.schedule)
        with self.autocast:
            output = self.tokenizer.decoder(codes).float()
        reconstruction = reconstruction_loss(output, images)
        similarity = gradient_similarity(output, images)
        edges, deviation = 1 - similarity.mean(), deviation_loss(similarity)
        loss = reconstruction + settings.gradient_similarity * edges
        loss = loss + settings.gradient_deviation * deviation
        losses: Losses = {
            "reconstruction": reconstruction,
            "gradient_similarity": edges,
            "gradient_deviation": deviation,
        }
        if self.adversary is not None:
            losses["discriminator"] = self.adversary.learn(images, output, lq)
            losses["adversarial"] = self.adversary.judge(output, lq)
            if step >= settings.adversarial_from:
                loss = loss + settings.adversarial * losses["adversarial"]
        return {"loss": loss, **losses}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Evaluate decoded bits of degraded pictures; `val_gradient_energy` is relative to the original's."""

        def restore(lq: Tensor, clean: Tensor) -> Measured:
            restored = self.tokenizer.decode(dequantize(self._bits(lq), self.schedule))
            energy = _gradient_energy(restored) / _gradient_energy(clean)
            return {"lq": lq, RESTORED: restored}, {"val_gradient_energy": energy}

        return self.held_out.measure(restore, sheet_path(folder, step))

    @torch.no_grad()
    def _bits(self, lq: Tensor) -> Tensor:
        """Return the bits (B, L, d) to decode for degraded pictures (B, 3, H, W)."""
        bits = quantize(self.tokenizer.encode(lq), self.schedule).bits
        if self.student is None:
            return bits
        with self.autocast:
            tokens = pyramid_tokens(bits, self.schedule, "long")
            logits = self.student(tokens, self.text, self.schedule, lq_bits=bits)
        return log_odds(logits.float()) > 0


def _gradient_energy(pictures: Tensor) -> Tensor:
    across, down = pictures.diff(dim=-1), pictures.diff(dim=-2)
    return across.square().mean() + down.square().mean()
