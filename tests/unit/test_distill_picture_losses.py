"""Losses on pictures and their gradients against slow formulas in numpy, the gradient by central differences."""

import numpy as np
import pytest
import torch
from numeric import Array, check, pair

from varestorer_core.distill import losses
from varestorer_core.metrics import gmsd


def plain_gradient_l1(a: Array, b: Array) -> float:
    d = a - b
    return float(np.abs(np.diff(d, axis=-1)).mean() + np.abs(np.diff(d, axis=-2)).mean())


def plain_ssim(a: Array, b: Array) -> float:
    """Window by window, with the textbook's means, variances and covariance; values span 2."""
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    values = []
    for plane_a, plane_b in zip(
        a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:]), strict=True
    ):
        for y in range(a.shape[2] - 6):
            for x in range(a.shape[3] - 6):
                p, q = (plane[y : y + 7, x : x + 7] for plane in (plane_a, plane_b))
                covariance = ((p - p.mean()) * (q - q.mean())).mean()
                values.append(
                    (2 * p.mean() * q.mean() + c1)
                    * (2 * covariance + c2)
                    / ((p.mean() ** 2 + q.mean() ** 2 + c1) * (p.var() + q.var() + c2))
                )
    return float(np.mean(values))


def plain_halved(a: Array) -> Array:
    return (a[..., ::2, ::2] + a[..., 1::2, ::2] + a[..., ::2, 1::2] + a[..., 1::2, 1::2]) / 4


def plain_structural(a: Array, b: Array) -> float:
    similarity = plain_gradient_similarity(a, b)
    edges = 1 - similarity.mean() + plain_deviation(similarity)
    total = 0.0
    for level in range(3):
        if level:
            a, b = plain_halved(a), plain_halved(b)
        total += 1 - plain_ssim(a, b) + plain_gradient_l1(a, b)
    return float(total / 3 + edges)


def test_gradient_l1():
    a, b = pair(2, 3, 5, 6)
    check(lambda x: losses.gradient_l1(x, b), lambda x: plain_gradient_l1(x, b.numpy()), a)


def plain_gradient_similarity(a: Array, b: Array) -> Array:
    def magnitude(pictures: Array) -> Array:
        luma = np.einsum("bchw,c->bhw", pictures, [0.299, 0.587, 0.114]) / 2
        n, height, width = luma.shape
        half = luma.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))
        down = half[:, :-2] + half[:, 1:-1] + half[:, 2:]
        right = half[..., :-2] + half[..., 1:-1] + half[..., 2:]
        x = (down[..., 2:] - down[..., :-2]) / 3
        y = (right[:, 2:] - right[:, :-2]) / 3
        return np.sqrt(x * x + y * y + 1e-8)

    g, h, c = magnitude(a), magnitude(b), 170 / 255**2
    return (2 * g * h + c) / (g * g + h * h + c)


def plain_deviation(similarity: Array) -> float:
    deviations = [np.sqrt(of_one.var() + 1e-8) - 1e-4 for of_one in similarity]
    return float(np.mean(deviations))


def test_gradient_similarity():
    a, b = pair(2, 3, 12, 10)
    check(
        lambda x: losses.gradient_similarity(x, b).mean(),
        lambda x: float(plain_gradient_similarity(x, b.numpy()).mean()),
        a,
    )


def test_gradient_deviation():
    a, b = pair(2, 3, 12, 10)

    def plain(x: Array) -> float:
        return plain_deviation(plain_gradient_similarity(x, b.numpy()))

    def loss(x: torch.Tensor) -> torch.Tensor:
        return losses.deviation_loss(losses.gradient_similarity(x, b))

    check(loss, plain, a, 12)
    unit = [(x[:1] + 1) / 2 for x in (a, b)]
    assert float(losses.deviation_loss(losses.gradient_similarity(a[:1], b[:1]))) == pytest.approx(
        float(gmsd(unit[0][0].float(), unit[1][0].float())), abs=2e-4
    )
    same = a.clone().requires_grad_(True)
    losses.deviation_loss(losses.gradient_similarity(same, a)).backward()
    assert same.grad is not None
    assert bool(torch.isfinite(same.grad).all())


def test_ssim():
    a, b = pair(1, 2, 9, 10)
    check(lambda x: losses.ssim(x, b), lambda x: plain_ssim(x, b.numpy()), a)


def test_structural_loss():
    a, b = pair(1, 3, 28, 28)
    check(lambda x: losses.structural_loss(x, b), lambda x: plain_structural(x, b.numpy()), a, 12)


def test_reconstruction_loss():
    a, b = pair(1, 2, 9, 9)

    def plain(x: Array) -> float:
        y = b.numpy()
        return float(
            np.abs(x - y).mean() + 0.5 * plain_gradient_l1(x, y) + 0.3 * (1 - plain_ssim(x, y))
        )

    check(lambda x: losses.reconstruction_loss(x, b), plain, a)


def test_equal_pictures_lose_nothing():
    a, _ = pair(1, 3, 32, 32)
    assert float(losses.structural_loss(a, a)) == pytest.approx(0, abs=1e-9)
    assert float(losses.reconstruction_loss(a, a)) == pytest.approx(0, abs=1e-9)


# The picture through straight-through bits
