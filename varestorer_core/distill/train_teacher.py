"""Stage 2: the teacher, a block-causal next-scale predictor of clean pictures' bits.

Trained with teacher forcing on pyramids with random bit errors, so that it learns to correct earlier scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import TransformerConfig
from ..models.bsq import pyramid_tokens
from ..models.masks import block_causal_mask
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import get_schedule
from .batches import Batch, Draw
from .held_out import HeldOut, Measured
from .initialise import initialise
from .losses import bit_cross_entropy, log_odds, scale_weights
from .mixed import mixed_precision
from .self_correction import MOST_FLIPS, flipped_pyramid
from .stage import Losses

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
    """Settings of the teacher stage besides those of the loop."""

    batch: int = 4
    most_flips: float = MOST_FLIPS
    amp: bool = True
    """bfloat16 autocast, on devices that are faster with it."""


class TeacherStage:
    """Trains a teacher on the bits of clean pictures."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        config: TransformerConfig,
        seed: int,
        held_out: HeldOut,
        *,
        settings: TeacherSettings | None = None,
        device: str = "cpu",
    ):
        """Create a new teacher.

        Args:
            tokenizer: frozen tokenizer for the bits of pictures.
            seed: seed of the initial values.
            held_out: clean pictures of the size of a tile.
        """
        self.settings = settings or TeacherSettings()
        self.held_out = held_out
        self.schedule = get_schedule(1.0, config.pixel_class)
        self.tokenizer = tokenizer.requires_grad_(False).to(device)
        self.teacher = VARTransformer(config)
        initialise(self.teacher, seed)
        self.teacher.to(device)
        self.mask = block_causal_mask(self.schedule, device)
        self.weights = scale_weights(self.schedule, torch.device(device))
        self.autocast = mixed_precision(device, self.settings.amp)
        self.modules: dict[str, nn.Module] = {"teacher": self.teacher}
        self.networks: tuple[nn.Module, ...] = (self.tokenizer, self.teacher)

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Clean tiles."""
        crop = self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]
        return (Draw(self.settings.batch, crop),)

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the cross entropy of the next scales' bits, given scales with random errors."""
        logits, target = self._predict(batch["clean"], generator, self.settings.most_flips)
        accuracy = ((log_odds(logits.detach()) > 0) == target).float().mean()
        return {"loss": bit_cross_entropy(logits, target, self.weights), "accuracy": accuracy}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Return loss and accuracy of each scale, given scales without errors."""

        def measure(_: Tensor, clean: Tensor) -> Measured:
            logits, target = self._predict(clean, torch.Generator(), 0.0)
            right = ((log_odds(logits) > 0) == target).float().mean(dim=(0, 2))
            scales = {
                f"val_accuracy_{k}": right[a:b].mean()
                for k, (a, b) in enumerate(self.schedule.spans)
            }
            return {}, {"val_loss": bit_cross_entropy(logits, target, self.weights), **scales}

        return self.held_out.measure(measure)

    def _predict(
        self, images: Tensor, generator: torch.Generator, most_flips: float
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, L, d, 2) and the bits (B, L, d) to predict."""
        with torch.no_grad():
            features = self.tokenizer.encode(images)
        target, seen = flipped_pyramid(features, self.schedule, generator, most_flips)
        tokens = pyramid_tokens(seen, self.schedule, "short")
        with self.autocast:
            text = self.teacher.encode_text()
            logits = self.teacher(tokens, text, self.schedule, mask=self.mask)
        return logits.float(), target
