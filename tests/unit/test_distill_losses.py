"""Losses on tokens and their gradients against slow formulas in numpy, the gradient by central differences."""

import math

import numpy as np
import pytest
import torch
from numeric import Array, check, pair, plain_enlarge

from varestorer_core.distill import losses
from varestorer_core.distill.train_student import straight_through_codes
from varestorer_core.distill.train_tokenizer import prefix_schedule
from varestorer_core.schedule import get_schedule

SCHEDULE = prefix_schedule(get_schedule(1.0, "0.06M"), 3)
"""Grids of 1, 2 and 4 tokens a side."""
WEIGHTS = losses.scale_weights(SCHEDULE).double()


def probabilities(logits: Array) -> Array:
    """Return the probability of the second of two logits."""
    e = np.exp(logits)
    return e[..., 1] / e.sum(-1)


def per_scale_mean(each: Array) -> float:
    """Average (B, L, d) within every scale, then over the scales."""
    return float(np.mean([each[:, a:b].mean() for a, b in SCHEDULE.spans]))


# Bits


def test_kl_per_scale():
    teacher, student = pair(2, SCHEDULE.num_tokens, 3, 2, size=3)
    p = probabilities(teacher.numpy())

    def plain(logits: Array) -> float:
        q = probabilities(logits)
        return per_scale_mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))

    check(lambda s: losses.bit_kl(teacher, s, WEIGHTS), plain, student)
    assert float(losses.bit_kl(teacher, teacher, WEIGHTS)) == pytest.approx(0, abs=1e-12)


def test_kl_weights_every_scale_alike():
    teacher, student = pair(1, SCHEDULE.num_tokens, 3, 2)
    student = student.requires_grad_(True)
    losses.bit_kl(teacher, student, WEIGHTS).backward()
    assert student.grad is not None
    sizes = [float(student.grad[:, a:b].abs().sum()) for a, b in SCHEDULE.spans]
    assert max(sizes) < 3 * min(sizes)


def test_cross_entropy_of_the_two_way_choice():
    logits, _ = pair(2, SCHEDULE.num_tokens, 3, 2, size=3)
    bits = torch.rand(logits.shape[:-1], generator=torch.Generator().manual_seed(1)) > 0.5

    def plain(values: Array) -> float:
        p = probabilities(values)
        return per_scale_mean(-np.log(np.where(bits.numpy(), p, 1 - p)))

    check(lambda x: losses.bit_cross_entropy(x, bits, WEIGHTS), plain, logits)


# Pictures


def plain_sum(codes: Array) -> Array:
    """Return the summed codes (d, 4, 4) of the codes (L, d) of all scales."""
    total = np.zeros((codes.shape[1], 4, 4))
    for (start, stop), (side, _) in zip(SCHEDULE.spans, SCHEDULE.grids, strict=True):
        total += plain_enlarge(codes[start:stop].T.reshape(-1, side, side), 4)
    return total


def test_mse_through_straight_through_bits():
    logits, _ = pair(1, SCHEDULE.num_tokens, 3, 2, size=2)
    generator = torch.Generator().manual_seed(2)
    decoder = torch.rand(5, 3 * 16, generator=generator, dtype=torch.double)
    picture = torch.rand(5, generator=generator, dtype=torch.double)
    logits.requires_grad_(True)
    output = decoder @ straight_through_codes(logits, SCHEDULE).flatten()
    loss = (output - picture).square().mean()
    loss.backward()

    # Forward: the codes of the more likely bits.
    p = probabilities(logits.detach().numpy())[0]
    codes = np.where(p > 0.5, 1, -1) / math.sqrt(3)

    def plain(values: Array) -> float:
        error = decoder.numpy() @ plain_sum(values).ravel() - picture.numpy()
        return float((error**2).mean())

    assert float(loss.detach()) == pytest.approx(plain(codes), rel=1e-9)
    # Backward: the slope at those codes, with the expected code (2 p - 1) / sqrt(d).
    assert logits.grad is not None
    for token in range(SCHEDULE.num_tokens):
        for bit in range(3):
            step = np.zeros_like(codes)
            step[token, bit] = 1e-5
            slope = (plain(codes + step) - plain(codes - step)) / 2e-5
            chance = p[token, bit]
            expected = slope * 2 / math.sqrt(3) * chance * (1 - chance)
            got = logits.grad[0, token, bit].numpy()
            assert got == pytest.approx([-expected, expected], rel=1e-4, abs=1e-9)


# Tokenizer
