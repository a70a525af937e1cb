"""Losses of the training stages. Pictures are (B, 3, H, W) float, logits (B, L, d, 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import metrics
from ..schedule import ScaleSchedule

_TINY = 1e-8
"""Added under square roots, whose slope is infinite at zero."""


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference of the horizontal gradients plus that of the vertical ones."""
    e = a - b
    return (e[..., 1:] - e[..., :-1]).abs().mean() + (e[..., 1:, :] - e[..., :-1, :]).abs().mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean structural similarity of pictures in [-1, 1] with uniform 7 x 7 windows."""
    luminance, structure = metrics.ssim_maps(a, b, window=metrics.UNIFORM, data_range=2.0)
    return (luminance * structure).mean()


def structural_loss(a: Tensor, b: Tensor, levels: int = 3) -> Tensor:
    """Return the mean of (1 - SSIM) + gradient L1 over a pyramid of halved pictures, plus one minus the mean gradient
    similarity and its deviation.

    Replaces the paper's perceptual loss without a pretrained network.
    """
    similarity = gradient_similarity(a, b)
    edges = 1 - similarity.mean() + deviation_loss(similarity)
    total = a.new_zeros(())
    for level in range(levels):
        if level:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        total = total + (1 - ssim(a, b)) + gradient_l1(a, b)
    return total / levels + edges


def gradient_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return `metrics.gradient_similarity` (B, h, w) of pictures in [-1, 1], differentiable at zero."""
    return metrics.gradient_similarity(a, b, data_range=2.0, tiny=_TINY)


def deviation_loss(similarity: Tensor) -> Tensor:
    """Return the standard deviation of similarities (B, h, w) within a picture, the mean over pictures.

    For `gradient_similarity` this is GMSD: a few bad positions count more than many mediocre ones.
    """
    variance = similarity.flatten(1).var(dim=1, correction=0)
    return ((variance + _TINY).sqrt() - _TINY**0.5).mean()


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the tokenizer's picture loss: L1 + 0.5 gradient L1 + 0.3 (1 - SSIM)."""
    l1 = (output - target).abs().mean()
    return l1 + 0.5 * gradient_l1(output, target) + 0.3 * (1 - ssim(output, target))


def feature_distance(features: Tensor, target: Tensor) -> Tensor:
    """Return the mean over tokens of the squared distance of features from a target, both (B, d, h, w).

    With the summed codes as target, this is the commitment loss. Gradients only reach the features.
    """
    return (features - target.detach()).square().sum(1).mean()


def log_odds(logits: Tensor) -> Tensor:
    """Return the log-odds (B, L, d) of bit 1 from two-way logits (B, L, d, 2)."""
    return logits[..., 1] - logits[..., 0]


def scale_weights(schedule: ScaleSchedule, device: torch.device | None = None) -> Tensor:
    """Return weights (L,) with which a sum over tokens is the mean over scales of each scale's mean.

    Every scale counts equally, regardless of its size, because errors at coarse scales affect all finer ones.
    """
    parts = [torch.full((n,), 1 / (n * schedule.num_scales)) for n in schedule.sizes]
    return torch.cat(parts).to(device)


def bit_cross_entropy(logits: Tensor, bits: Tensor, weights: Tensor) -> Tensor:
    """Return the cross entropy per bit of true bits (B, L, d), tokens weighted by `weights` (L,)."""
    odds = log_odds(logits)
    loss = F.binary_cross_entropy_with_logits(odds, bits.to(odds), reduction="none")
    return (loss.mean(dim=(0, 2)) * weights).sum()


def bit_kl(teacher: Tensor, student: Tensor, weights: Tensor) -> Tensor:
    """Return KL(teacher || student) per bit: p ln(p/q) + (1-p) ln((1-p)/(1-q)).

    Args:
        teacher, student: logits (B, L, d, 2).
        weights: (L,) weight of each token, see `scale_weights`.
    """
    t, s = log_odds(teacher), log_odds(student)
    p = t.sigmoid()
    positive = p * (F.logsigmoid(t) - F.logsigmoid(s))
    negative = (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return ((positive + negative).mean(dim=(0, 2)) * weights).sum()
