"""A patch discriminator, as in the tokenizers of VQGAN, which makes a decoder commit to details instead of averaging.

Losses of differences are minimal for the mean of all possible pictures, which is blurred. A discriminator only judges
whether a patch could be real. It also receives the degraded picture, so that "real" means real for this input. Hinge
losses (Lim and Ye 2017) and spectral normalisation (Miyato et al. 2018) stabilise its training.
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
    """Four convolutions, three of them with stride 2, and one score for every patch of 8 x 8 pixels.

    Args:
        channels: channels of the concatenated pictures.
        width: channels of the first layer; the others have two and four times as many.
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
    """A discriminator with its own optimiser, and the adversarial loss of pictures.

    It is a module so that a training state includes it and its optimiser. Its parameters do not require gradients
    outside of `learn`, because the loop must not train them: its objective is the opposite of the loop's.

    Args:
        seed: seed of the initial values.
        learning_rate: usually twice that of the judged network.
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
        """Return the adversarial loss of output: the more real it looks, the lower.

        Args:
            output, lq: (B, 3, H, W) in [-1, 1].
        """
        return -self.discriminator(output, lq).mean()

    def learn(self, real: Tensor, output: Tensor, lq: Tensor) -> Tensor:
        """Train the discriminator for one step and return the hinge loss before it."""
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
        """Restore the optimiser's state, for `load_state_dict`."""
        self.optimizer.load_state_dict(state)


def _conv(before: int, after: int, kernel: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, kernel, stride, padding=1))
