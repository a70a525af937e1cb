"""The tokenizer's losses (commitment, entropy of bits) compared with slow formulas in NumPy."""

import math

import numpy as np
import pytest
import torch
from numeric import Array, check, entropy, pair, plain_enlarge

from varestorer_core.distill import losses
from varestorer_core.distill.entropy import SHARPNESS, entropy_loss, residuals, soft_bit_logits
from varestorer_core.distill.train_tokenizer import prefix_schedule
from varestorer_core.models.bsq import quantize
from varestorer_core.schedule import get_schedule

SCHEDULE = prefix_schedule(get_schedule(1.0, "0.06M"), 3)
"""Grids of 1, 2 and 4 tokens a side."""
WEIGHTS = losses.scale_weights(SCHEDULE).double()


def plain_residuals(features: Array, held: Array) -> list[Array]:
    """Return the residual of each scale; `held` are the features whose codes are constants."""
    found = []
    explained = np.zeros_like(held)
    for side, _ in SCHEDULE.grids:
        step = 4 // side
        tiles = (-1, held.shape[1], side, step, side, step)
        for source in (features, held):
            found.append((source - explained).reshape(tiles).mean(axis=(3, 5)))
        signs = np.where(found.pop() > 0, 1, -1) / math.sqrt(held.shape[1])
        explained = explained + np.stack([plain_enlarge(picture, 4) for picture in signs])
    return found


def test_commitment():
    features, _ = pair(2, 3, 4, 4)
    codes = quantize(features, SCHEDULE).summed_codes

    def plain(values: Array) -> float:
        total = 0.0
        for b in range(2):
            for y in range(4):
                for x in range(4):
                    total += ((values[b, :, y, x] - codes[b, :, y, x].numpy()) ** 2).sum()
        return total / 32

    check(lambda f: losses.feature_distance(f, codes), plain, features)


def test_targets_feel_no_distance():
    features, target = pair(1, 2, 4, 4)
    target.requires_grad_(True)
    losses.feature_distance(features.requires_grad_(True), target).backward()
    assert target.grad is None


def test_residuals_have_the_signs_of_the_bits():
    features, _ = pair(2, 3, 4, 4)
    bits = quantize(features, SCHEDULE).bits
    found = list(residuals(features, bits, SCHEDULE))
    signs = torch.cat([(r > 0).flatten(2).transpose(1, 2) for r in found], dim=1)
    assert torch.equal(signs, bits)
    expected = plain_residuals(features.numpy(), features.numpy())
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 0.5])
def test_entropy_term(gamma):
    features, _ = pair(3, 32, 4, 4)
    bits = quantize(features, SCHEDULE).bits
    start = features.numpy().copy()

    def plain(values: Array) -> float:
        total = 0.0
        for residual in plain_residuals(values, start):
            tokens = residual.transpose(0, 2, 3, 1).reshape(-1, 32)
            unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
            # Of the two corners of the cube that differ in one bit, by exp(SHARPNESS <u, c>).
            up, down = (np.exp(sign * SHARPNESS * unit / math.sqrt(32)) for sign in (1, -1))
            p = up / (up + down)
            total += entropy(p).mean() - gamma * entropy(p.mean(axis=0)).mean()
        return total / 3

    check(lambda f: entropy_loss(f, bits, SCHEDULE, gamma), plain, features)


def test_entropy_term_prefers_decided_bits_that_are_used_both_ways():
    d = 16
    signs = torch.where(
        torch.rand(8, d, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5, 1.0, -1.0
    )
    bits = quantize(signs, SCHEDULE).bits
    idle = torch.ones_like(signs)
    one = torch.zeros_like(signs)
    one[:, 0] = 1.0  # the other bits are undecided
    values = [
        float(entropy_loss(f, quantize(f, SCHEDULE).bits, SCHEDULE)) for f in (signs, idle, one)
    ]
    assert values[0] == float(entropy_loss(signs, bits, SCHEDULE))
    assert values[0] < values[1]
    assert values[0] < values[2]
    assert float(entropy_loss(signs, bits, SCHEDULE, 0.0)) > values[0]


def test_entropy_stays_finite_where_bits_are_certain():
    features = torch.zeros(1, 4, 4, 4)
    features[:, 0] = 1.0
    bits = quantize(features, SCHEDULE).bits
    assert float(soft_bit_logits(features).max()) == pytest.approx(SHARPNESS)
    features.requires_grad_(True)
    loss = entropy_loss(features, bits, SCHEDULE)
    loss.backward()
    assert torch.isfinite(loss)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


# Perceptual
