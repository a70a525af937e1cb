"""Stage 3: fine-tuning of the tokenizer's encoder on degraded pictures.

VARestorer's project page says that the student's encoder is fine-tuned. Here it learns to map a degraded picture to the
features of the clean one. The decoder and the meaning of the bits do not change, so the teacher remains valid. For a
small model this is the cheap part of restoration: convolutions learn to remove blur and noise in minutes, and the
student's input has fewer wrong bits.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..lora.convolution import add_low_rank
from ..models.bsq import quantize
from ..models.tokenizer import VisualTokenizer
from ..schedule import get_schedule
from .batches import Batch, Draw
from .degrade import DEFAULT_MIX
from .held_out import RESTORED, HeldOut, Measured, sheet_path
from .loop import LoopSettings
from .losses import deviation_loss, feature_distance, gradient_similarity, reconstruction_loss
from .mixed import mixed_precision
from .stage import Losses


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of the encoder stage besides those of the loop."""

    pixel_class: str = "0.25M"
    batch: int = 4
    features: float = 0.3
    """Weight of the squared distance to the clean picture's features, per token."""
    gradient_similarity: float = 1.0
    """Weight of one minus the mean `gradient_similarity`, against averaged edges."""
    gradient_deviation: float = 1.0
    """Weight of its deviation, which is GMSD, against sharpening that improves most positions at the cost of a few."""
    clean: float = 0.25
    """Fraction of pictures that are not degraded, so that clean ones keep their bits."""
    rank: int = 0
    """Rank of the trained correction of each convolution; 0 trains every weight, which suits small models."""
    continuous_until: float = 0.6
    quantized_from: float = 0.9
    """Start and end, as fractions of the run, of the rise of the quantised fraction of samples from 0 to 1."""
    degradation: tuple[str, ...] = DEFAULT_MIX
    """Presets, one of which is drawn for each picture."""
    amp: bool = True
    """bfloat16 autocast of everything but the encoders, on devices that are faster with it."""


class EncoderStage:
    """Fine-tunes a copy of a tokenizer's encoder on degraded pictures; the decoder is frozen."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        loop: LoopSettings,
        held_out: HeldOut,
        *,
        settings: EncoderSettings | None = None,
        device: str = "cpu",
    ):
        """Copy the encoder.

        Args:
            held_out: degraded and clean pictures of the size of a tile.
        """
        self.settings = settings or EncoderSettings()
        self.held_out, self.steps = held_out, loop.steps
        self.schedule = get_schedule(1.0, self.settings.pixel_class)
        self.tokenizer = tokenizer.requires_grad_(False).to(device)
        self.adapted = copy.deepcopy(tokenizer)
        if self.settings.rank:
            add_low_rank(self.adapted.encoder, self.settings.rank, loop.seed)
        else:
            self.adapted.encoder.requires_grad_(True)
        self.autocast = mixed_precision(device, self.settings.amp)
        self.modules: dict[str, nn.Module] = {"encoder": self.adapted.encoder}
        self.networks: tuple[nn.Module, ...] = (self.tokenizer, self.adapted)

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Tiles, a fraction of which stays clean."""
        wanted = self.settings
        crop = self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]
        return (Draw(wanted.batch, crop, wanted.degradation, wanted.clean),)

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of encoding and decoding degraded pictures."""
        images, settings = batch["clean"], self.settings
        with torch.no_grad():
            target = self.tokenizer.encode(images)
        features = self.adapted.encode(batch["lq"])
        codes = self._quantized_in_part(features, step, generator)
        with self.autocast:
            output = self.adapted.decoder(codes).float()
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

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Evaluate degraded pictures decoded from the bits of both encoders, and clean ones from the new one's."""

        def restore(lq: Tensor, clean: Tensor) -> Measured:
            before, after = self.tokenizer(lq, self.schedule), self.adapted(lq, self.schedule)
            kept = self.adapted(clean, self.schedule)
            return {"lq": lq, "before": before, RESTORED: after, "clean": kept}, {}

        return self.held_out.measure(restore, sheet_path(folder, step))

    def _quantized_in_part(self, features: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """Return features, quantised in a growing fraction of samples, with straight-through gradients.

        Such gradients are noisy over all scales, so the first part of the run does not use them. But only with
        quantisation can the encoder learn to compensate for its losses.
        """
        settings = self.settings
        span = max(1e-6, settings.quantized_from - settings.continuous_until)
        share = (step / self.steps - settings.continuous_until) / span
        chosen = torch.rand(len(features), generator=generator) < share
        if not bool(chosen.any()):
            return features
        summed = quantize(features, self.schedule, straight_through=True).summed_codes
        return torch.where(chosen.to(features.device)[:, None, None, None], summed, features)
