"""A patch discriminator, as the tokenizers of VQGAN have: it makes a decoder decide instead of averaging.

Losses of differences are least where a picture is the mean of all that it could be, which is soft. A discriminator
only asks whether a patch could be real. It sees the degraded picture beside the other, so that "real" means real for
this input. Hinge losses (Lim and Ye 2017) and spectral normalisation (Miyato et al. 2018) keep it from running away.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Four convolutions, three of which halve, and a judgement for every patch of 8 x 8 pixels.

    Args:
        channels: of the pictures that it is shown, beside each other.
        width: of the first layer; the others have twice and four times as many.
    """

    def __init__(self, channels: int = 6, width: int = 32):
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [_conv(before, after, 4, stride=2), nn.LeakyReLU(_SLOPE)]
        layers += [_conv(widths[-1], widths[-1], 3), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, _conv(widths[-1], 1, 3))

    def forward(self, pictures: Tensor, lq: Tensor) -> Tensor:
        """Return (B, 1, H / 8, W / 8): high where pictures (B, 3, H, W) look real beside the degraded ones."""
        return self.layers(torch.cat([pictures, lq], dim=1))


class Adversary(nn.Module):
    """A discriminator that learns by itself whenever it is asked, and what it says about pictures.

    It is a module so that a training state holds it, its optimiser included. Its parameters are marked as not
    training, because the loop must not train them: its goal is the opposite of the loop's.

    Args:
        seed: of its starting values.
        learning_rate: twice that of what it judges is usual.
    """

    def __init__(self, seed: int, learning_rate: float = 4e-4, device: str = "cpu"):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = PatchDiscriminator().to(device)
        self.optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=learning_rate, betas=(0.5, 0.99)
        )
        self.requires_grad_(False)

    def judge(self, output: Tensor, lq: Tensor) -> Tensor:
        """Return the loss of what is judged: lower the more real it looks.

        Args:
            output, lq: (B, 3, H, W) in [-1, 1].
        """
        return -self.discriminator(output, lq).mean()

    def learn(self, real: Tensor, output: Tensor, lq: Tensor) -> Tensor:
        """Take one step towards telling real pictures from output; return the hinge loss before it."""
        self.discriminator.requires_grad_(True)
        try:
            with torch.enable_grad():
                missed = F.relu(1 - self.discriminator(real, lq)).mean()
                fooled = F.relu(1 + self.discriminator(output.detach(), lq)).mean()
                loss = missed + fooled
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
            self.optimizer.step()
        finally:
            self.discriminator.requires_grad_(False)
        return loss.detach()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimiser's state, for `state_dict`."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take an optimiser's state from `load_state_dict`."""
        self.optimizer.load_state_dict(state)


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, kernel, stride, padding=1))
