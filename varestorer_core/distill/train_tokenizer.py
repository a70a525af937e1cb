"""Stage 1: the visual tokenizer.

What decides success at this size (measured, see docs/tiny-model.md): the skip path trained alone first
(`skip_start`); GroupNorm with 8 channels a group or more; residuals against the detached sum. Small crops first
(more pictures per second of a batch), then crops of the tile size with the schedule that inference uses.
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
        """Make a new tokenizer; it starts at random values until `start` has run.

        Args:
            held_out: clean pictures of the size of a tile.
            init: file of a tokenizer to start from instead; see `warm_start`. `start` is then None.
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
        """Return the losses of reconstructing the pictures through their bits."""
        small = step < math.ceil(self.steps * self.settings.small_until)
        schedule = self.small if small else self.whole
        return _losses(self.tokenizer, batch["clean"], schedule, self.settings)

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Measure pictures through their bits, and through features that are not quantised."""

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
