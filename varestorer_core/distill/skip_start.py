"""Initialisation of a new tokenizer: its skip path is first trained alone, as a linear autoencoder.

With blocks, norms and non-linearities, a small convolutional autoencoder takes an hour to learn what a linear one
learns in a minute: to transmit the picture, and to be robust to quantisation. The path around all residual blocks is
therefore trained alone; then the blocks are added, with their last convolution at zero, and refine it.

Encoder and decoder both end in GroupNorm and SiLU. These are initially neutral: every signal enters twice, with both
signs, because silu(x) - silu(-x) = x; and a pair of constant channels in every group accounts for most of the group's
standard deviation, so that normalisation preserves the contrast of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SettingError
from ..models.autoencoder import Decoder, Encoder, ResidualBlock
from ..models.bsq import quantize
from ..models.tokenizer import VisualTokenizer
from ..schedule import ScaleSchedule
from .batches import Batch, Draw, batch_generator, draw_batch, to_float
from .loop import LoopSettings
from .losses import feature_distance, reconstruction_loss
from .mixed import mixed_precision
from .sources import PictureSource
from .stage import Losses

_CONSTANT = 3.0
"""A group's constant, as a multiple of the root of its signals' summed variances."""
_LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class SkipSettings:
    """Training settings of the skip path."""

    steps: int = 600
    batch: int = 8
    learning_rate: float = 3e-3
    """Peak learning rate; warm-up over 30 steps, then cosine decay."""
    continuous_until: float = 0.3
    quantized_from: float = 0.6
    """Start and end, as fractions of the run, of the rise of the quantised fraction of samples from 0 to 1."""
    commitment: float = 0.1


class SkipStage:
    """Trains the skip path of a new tokenizer; `join` then adds the blocks."""

    def __init__(
        self,
        tokenizer: VisualTokenizer,
        schedule: ScaleSchedule,
        seed: int,
        *,
        settings: SkipSettings | None = None,
        amp: bool = True,
    ):
        """Initialise the tokenizer in place.

        Args:
            schedule: schedule of the crops.
            seed: seed of the initial values and the crops.

        Raises:
            SettingError: if the network is too narrow for neutral norms.
        """
        self.settings = settings or SkipSettings()
        for half in (tokenizer.encoder, tokenizer.decoder):
            _check_width(half)
        self.tokenizer, self.schedule, self.seed = tokenizer, schedule, seed
        initialise_skip_path(tokenizer, seed)
        self.autocast = mixed_precision(next(tokenizer.parameters()).device, amp)
        path = nn.ModuleList(nn.ParameterList([p]) for p in skip_parameters(tokenizer))
        self.modules: dict[str, nn.Module] = {"skip_path": path}
        # The skip path calls single convolutions, not the modules that would be compiled.
        self.networks: tuple[nn.Module, ...] = ()

    def loop(self, whole: LoopSettings) -> LoopSettings:
        """Return the loop settings, for a stage that is trained with `whole` afterwards."""
        return replace(
            whole,
            steps=self.settings.steps,
            learning_rate=self.settings.learning_rate,
            warmup=30,
            weight_decay=0.0,
            accumulate=1,
            ema=0.0,
            stop_at=None,
        )

    @property
    def draws(self) -> tuple[Draw, ...]:
        """Small crops."""
        crop = self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]
        return (Draw(self.settings.batch, crop),)

    def step(self, step: int, batch: Batch, generator: torch.Generator) -> Losses:
        """Return the losses of a linear autoencoder with a growing fraction of quantised samples."""
        images, settings = batch["clean"], self.settings
        features = skip_encode(self.tokenizer.encoder, images)
        summed = quantize(features, self.schedule, straight_through=True).summed_codes
        span = settings.quantized_from - settings.continuous_until
        share = (step / settings.steps - settings.continuous_until) / span
        chosen = (torch.rand(len(images), generator=generator) < share).to(images.device)
        codes = torch.where(chosen[:, None, None, None], summed, features)
        with self.autocast:
            output = skip_decode(self.tokenizer.decoder, codes).float()
        reconstruction = reconstruction_loss(output, images)
        commitment = feature_distance(features, summed)
        loss = reconstruction + settings.commitment * commitment
        return {"loss": loss, "reconstruction": reconstruction, "commitment": commitment}

    def evaluate(self, step: int, folder: Path) -> dict[str, float]:
        """Return no metrics: the following stage evaluates."""
        return {}

    @torch.no_grad()
    def join(self, source: PictureSource) -> None:
        """Add the blocks to the trained path, without changing its outputs."""
        (draw,) = self.draws
        draw = replace(draw, batch=4 * draw.batch)
        batch = draw_batch(source, draw, batch_generator(self.seed, self.settings.steps))
        images = to_float(batch)["clean"].to(next(self.tokenizer.parameters()).device)
        features = skip_encode(self.tokenizer.encoder, images)
        codes = quantize(features, self.schedule).summed_codes
        join_blocks(self.tokenizer, images, codes)


@torch.no_grad()
def initialise_skip_path(tokenizer: VisualTokenizer, seed: int) -> None:
    """Initialise all convolutions: orthogonal on the skip path, and blocks that add zero."""
    generator = torch.Generator().manual_seed(seed)
    skip = {id(parameter) for parameter in skip_parameters(tokenizer)}
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv2d):
            weight = torch.empty(module.weight.shape)
            if id(module.weight) in skip:
                nn.init.orthogonal_(weight, generator=generator)
            else:
                nn.init.normal_(weight, std=weight[0].numel() ** -0.5, generator=generator)
            module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.zero_()
    for module in tokenizer.modules():
        if isinstance(module, ResidualBlock):
            module.conv2.weight.zero_()
    # Features start in the range that summed codes can reach, and the decoder scales them to unit size.
    tokenizer.encoder.conv_out.weight.mul_(0.5)
    tokenizer.decoder.conv_in.weight.mul_(tokenizer.config.codebook_dim**0.5 / 2)


def skip_parameters(tokenizer: VisualTokenizer) -> Iterator[nn.Parameter]:
    """Yield the parameters of the path around all residual blocks."""
    for name, module in tokenizer.named_modules():
        last = name.rsplit(".", 1)[-1]
        if last in ("conv_in", "conv_out", "nin_shortcut") or name.endswith("sample.conv"):
            yield from module.parameters()


def skip_encode(encoder: Encoder, images: Tensor) -> Tensor:
    """Return the features (B, d, h, w) of the skip path alone, of images (B, 3, H, W)."""
    return _last(encoder, _signals(encoder, images))


def skip_decode(decoder: Decoder, codes: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W) of the skip path alone, of codes (B, d, h, w)."""
    return _last(decoder, _walk(decoder.conv_in(codes), reversed(list(decoder.up))))


@torch.no_grad()
def join_blocks(tokenizer: VisualTokenizer, images: Tensor, codes: Tensor) -> None:
    """Set norms, constants and last convolutions so that the whole network computes the same as the skip path.

    Args:
        images, codes: (B, 3, H, W) and their codes (B, d, h, w), to measure standard deviations.
    """
    encoder, decoder = tokenizer.encoder, tokenizer.decoder
    signals = _signals(encoder, images)
    used = signals.shape[1]
    shortcut = _shortcut(encoder.down[-1])
    rows, offsets = shortcut.weight[:used].clone(), _bias(shortcut)[:used].clone()
    matrix = encoder.conv_out.weight[:, :used, 1, 1].clone()
    _double_signals(encoder, shortcut, _power(signals), rows, offsets, matrix)
    # The decoder's signals are the three colours, so its last convolution is merged into the projection before it.
    matrix = decoder.conv_out.weight[:, :, 1, 1].clone()
    signals = _walk(decoder.conv_in(codes), reversed(list(decoder.up)))
    colours = torch.einsum("rc,bchw->brhw", matrix, signals)
    shortcut = _shortcut(decoder.up[0])
    rows = torch.einsum("rc,cihw->rihw", matrix, shortcut.weight)
    offsets = matrix @ _bias(shortcut)
    _double_signals(decoder, shortcut, _power(colours), rows, offsets, torch.eye(3).to(matrix))


def _double_signals(
    half: Encoder | Decoder,
    shortcut: nn.Conv2d,
    power: Tensor,
    rows: Tensor,
    offsets: Tensor,
    matrix: Tensor,
) -> None:
    """Make `shortcut` output every signal with both signs and unit power, and the last convolution invert that.

    Args:
        power: (n,) mean square of the signals.
        rows, offsets: (n, used, 1, 1) and (n,): weight and bias of the projection to the signals.
        matrix: (out, n): weight of the last convolution on the signals; its bias is kept.
    """
    norm, conv = half.norm_out, half.conv_out
    size, pairs = _group(norm)
    for parameter in (shortcut.weight, _bias(shortcut), conv.weight, norm.bias):
        parameter.zero_()
    for group in range(norm.num_groups):
        first = group * size
        members = range(group * pairs, min((group + 1) * pairs, len(power)))
        for i, member in enumerate(members):
            spread = power[member].sqrt().clamp(min=_LEAST_SPREAD)
            for sign in (1, -1):
                channel = first + 2 + 2 * i + (sign < 0)
                shortcut.weight[channel] = sign * rows[member] / spread
                _bias(shortcut)[channel] = sign * offsets[member] / spread
                conv.weight[:, channel, 1, 1] = sign * matrix[:, member] * spread
        total = max(1, 2 * len(members))
        constant = _CONSTANT * math.sqrt(total)
        _bias(shortcut)[first], _bias(shortcut)[first + 1] = constant, -constant
        norm.weight[first : first + size] = math.sqrt((total + 2 * constant**2) / size)
        norm.weight[first : first + 2] = 0


def _signals(encoder: Encoder, images: Tensor) -> Tensor:
    """Return the part of the skip path for the encoder's last convolution: half of the channels, minus constants."""
    size, pairs = _group(encoder.norm_out)
    x = _walk(encoder.conv_in(images), encoder.down)
    return x[:, : pairs * (x.shape[1] // size)]


def _last(half: Encoder | Decoder, x: Tensor) -> Tensor:
    """Apply the centre of the last convolution to its first channels."""
    conv = half.conv_out
    return F.conv2d(x, conv.weight[:, : x.shape[1], 1:2, 1:2], conv.bias)


def _walk(x: Tensor, levels: Iterable[nn.Module]) -> Tensor:
    for level in levels:
        for block in level.block:  # pyright: ignore[reportGeneralTypeIssues]
            if block.nin_shortcut is not None:
                x = block.nin_shortcut(x)
        for name in ("downsample", "upsample"):
            resample = level._modules.get(name)
            if resample is not None:
                x = resample(x)
    return x


def _check_width(half: Encoder | Decoder) -> None:
    _, pairs = _group(half.norm_out)
    level = half.down[-1] if isinstance(half, Encoder) else half.up[0]
    enough = pairs * half.norm_out.num_groups >= 3 and pairs >= 1
    if not enough or level.block[0].nin_shortcut is None:  # pyright: ignore
        raise SettingError(
            "A tokenizer that is trained from scratch needs groups of at least 4 channels, room for 3 pairs of "
            "channels besides a pair of constants in each group, and another width at its first and last level "
            f"than next to it; got {half.norm_out.num_channels} channels in {half.norm_out.num_groups} groups. "
            "Change base_channels, channel_multipliers or norm_groups."
        )


def _group(norm: nn.GroupNorm) -> tuple[int, int]:
    """Return the number of a group's channels, and of its pairs besides the constants."""
    size = norm.num_channels // norm.num_groups
    return size, (size - 2) // 2


def _shortcut(level: nn.Module) -> nn.Conv2d:
    return level.block[0].nin_shortcut  # pyright: ignore


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _power(maps: Tensor) -> Tensor:
    return maps.square().mean((0, 2, 3))
