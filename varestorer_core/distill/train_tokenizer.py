"""Stage 1: the visual tokenizer.

Important at this size (measured, see docs/tiny-model.md): training the skip path alone first (`skip_start`);
GroupNorm with at least 8 channels per group; residuals against the detached sum. Training starts with small crops,
which are faster, and continues with crops of the tile size and the schedule of inference.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import TokenizerConfig
from ..models.bsq import quantize
from ..models.tokenizer import VisualTokenizer
from ..schedule import ScaleSchedule, get_schedule
from .batches import Batch, Draw
from .entropy import entropy_loss
from .held_out import RESTORED, HeldOut, Measured, sheet_path
from .loop import LoopSettings
from .losses import feature_distance, reconstruction_loss
from .mixed import mixed_precision
from .skip_start import SkipSettings, SkipStage
from .stage import Losses
from .warm_start import start_from_file

TINY_TOKENIZER = TokenizerConfig(
    codebook_dim=64,
    base_channels=16,
    channel_multipliers=(1, 2, 6),
    num_res_blocks=1,
    norm_groups=2,
)
"""Tokenizer of the bundled model: 4 pixels per token."""


@dataclass(frozen=True)
class TokenizerSettings:
    """Settings of the tokenizer stage besides those of the loop."""

    pixel_class: str = "0.25M"
    batch: int = 8
    """Small crops per step; whole tiles have the same number of pixels per step."""
    small_scales: int = 7
    """Scales of the small crops: 7 means 16 x 16 tokens."""
    small_until: float = 0.6
    """Fraction of the run with small crops."""
    skip: SkipSettings = field(default_factory=SkipSettings)
    """Settings of the skip path's training, whose steps are not part of the loop's and never exceed them."""
    commitment: float = 0.1
    """Weight of the squared distance between features and summed codes, per token."""
    entropy: float = 0.0
    """Weight of the entropy loss, see `entropy`; the bundled model was trained without it."""
    entropy_gamma: float = 1.0
    """Weight of the mean's entropy in it, for the use of both values of every bit."""
    amp: bool = True
    """bfloat16 autocast of everything but the encoder, on devices that are faster with it."""


def prefix_schedule(schedule: ScaleSchedule, num_scales: int) -> ScaleSchedule:
    """Return the first scales of a schedule, for pictures smaller than a tile."""
    return dataclasses.replace(schedule, grids=schedule.full_grids[:num_scales])


class TokenizerStage:
    """Trains a tokenizer, after `start` has trained its skip path, or from the weights of a file."""

    def __init__(
        self,
        config: TokenizerConfig,
        loop: LoopSettings,
        held_out: HeldOut,
        *,
        settings: TokenizerSettings | None = None,
        device: str = "cpu",
        init: Path | None = None,
    ):
        """Create a new tokenizer with random values, which `start` initialises.

        Args:
            held_out: clean pictures of the size of a tile.
            init: file of a tokenizer to initialise from instead; see `warm_start`. `start` is then None.
        """
        self.settings = settings or TokenizerSettings()
        self.held_out = held_out
        self.tokenizer = VisualTokenizer(config)
        if init is not None:
            start_from_file(self.tokenizer, init, loop.seed)
        # Channels-last convolutions are a tenth faster on the CPU at these widths.
        self.tokenizer.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.whole = get_schedule(1.0, self.settings.pixel_class)
        self.small = prefix_schedule(self.whole, self.settings.small_scales)
        self.steps = loop.steps
        skip = dataclasses.replace(
            self.settings.skip, steps=min(self.settings.skip.steps, loop.steps)
        )
        self.start = None
        if init is None:
            self.start = SkipStage(
                self.tokenizer, self.small, loop.seed, settings=skip, amp=self.settings.amp
            )
        self.modules: dict[str, nn.Module] = {"tokenizer": self.tokenizer}
        self.networks: tuple[nn.Module, ...] = (self.tokenizer,)

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Small crops first, then whole tiles."""
        patch = self.tokenizer.config.patch_size
        batch, small, whole = self.settings.batch, self.small, self.whole
        change = math.ceil(self.steps * self.settings.small_until)
        count = max(1, batch * small.sizes[-1] // whole.sizes[-1])
        return (
            Draw(batch, small.pixel_size(patch)[0]),
            Draw(count, whole.pixel_size(patch)[0], from_step=change),
        )

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of reconstructing the pictures from their bits."""
        small = step < math.ceil(self.steps * self.settings.small_until)
        schedule = self.small if small else self.whole
        return _losses(self.tokenizer, batch["clean"], schedule, self.settings)

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Evaluate reconstructions from bits, and from features without quantisation."""

        def restore(_: Tensor, clean: Tensor) -> Measured:
            features = self.tokenizer.encode(clean)
            bits = self.tokenizer.decode(quantize(features, self.whole).summed_codes)
            return {RESTORED: bits, "continuous": self.tokenizer.decode(features)}, {}

        return self.held_out.measure(restore, sheet_path(folder, step))


def _losses(
    tokenizer: VisualTokenizer,
    images: Tensor,
    schedule: ScaleSchedule,
    settings: TokenizerSettings,
) -> Losses:
    """Return the losses of reconstructing images (B, 3, H, W) from their bits."""
    features = tokenizer.encoder(images)
    pyramid = quantize(features, schedule, straight_through=True)
    with mixed_precision(images.device, settings.amp):
        output = tokenizer.decoder(pyramid.summed_codes)
    reconstruction = reconstruction_loss(output.float(), images)
    # Keeps features in the range of the codes.
    commitment = feature_distance(features, pyramid.summed_codes)
    loss = reconstruction + settings.commitment * commitment
    losses = {"reconstruction": reconstruction, "commitment": commitment}
    if settings.entropy:
        entropy = entropy_loss(features, pyramid.bits, schedule, settings.entropy_gamma)
        losses["entropy"] = entropy
        loss = loss + settings.entropy * entropy
    return {"loss": loss, **losses}
