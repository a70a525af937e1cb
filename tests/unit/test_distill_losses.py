"""Losses against plain formulas."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from varestorer_core.distill import losses
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(shape, generator=generator) * 2 - 1 for _ in range(2))  # pyright: ignore


def test_kl_is_that_of_bernoulli_distributions_averaged_per_scale():
    teacher, student = pair(2, SCHEDULE.num_tokens, 3, 2)
    teacher, student = teacher * 3, student * 3
    p = teacher.softmax(-1)[..., 1].double().numpy()
    q = student.softmax(-1)[..., 1].double().numpy()
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    expected = np.mean([each[:, a:b].mean() for a, b in SCHEDULE.spans])
    weights = losses.scale_weights(SCHEDULE)
    assert float(losses.bit_kl(teacher, student, weights)) == pytest.approx(expected, rel=1e-4)
    assert float(losses.bit_kl(teacher, teacher, weights)) == pytest.approx(0, abs=1e-7)


def test_cross_entropy_is_that_of_the_two_way_choice():
    logits, _ = pair(2, SCHEDULE.num_tokens, 3, 2)
    bits = torch.rand(logits.shape[:-1], generator=torch.Generator().manual_seed(1)) > 0.5
    each = F.cross_entropy(logits.flatten(0, 2), bits.flatten().long(), reduction="none").view(
        bits.shape
    )
    expected = torch.stack([each[:, a:b].mean() for a, b in SCHEDULE.spans]).mean()
    weights = losses.scale_weights(SCHEDULE)
    assert float(losses.bit_cross_entropy(logits, bits, weights)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_gradient_l1():
    a, b = pair(1, 1, 5, 6)
    d = (a - b)[0, 0].numpy()
    expected = np.abs(np.diff(d, axis=0)).mean() + np.abs(np.diff(d, axis=1)).mean()
    assert float(losses.gradient_l1(a, b)) == pytest.approx(float(expected), rel=1e-5)


def test_ssim_equals_the_window_formula():
    a, b = pair(1, 1, 9, 9)
    values = []
    for y in range(3):
        for x in range(3):
            p, q = (t[0, 0, y : y + 7, x : x + 7].double().numpy() for t in (a, b))
            cov = ((p - p.mean()) * (q - q.mean())).mean()
            c1, c2 = 0.02**2, 0.06**2
            values.append(
                (2 * p.mean() * q.mean() + c1)
                * (2 * cov + c2)
                / ((p.mean() ** 2 + q.mean() ** 2 + c1) * (p.var() + q.var() + c2))
            )
    assert float(losses.ssim(a, b)) == pytest.approx(float(np.mean(values)), rel=1e-4)


def test_equal_pictures_lose_nothing():
    a, _ = pair(1, 3, 32, 32)
    assert float(losses.structural_loss(a, a)) == pytest.approx(0, abs=1e-5)
    assert float(losses.reconstruction_loss(a, a)) == pytest.approx(0, abs=1e-5)


def test_psnr():
    a = torch.zeros(1, 3, 4, 4)
    assert losses.psnr(a, a + 0.2) == pytest.approx(20 * math.log10(2 / 0.2), abs=1e-4)
