"""Every loss and its gradient against a slow formula in numpy, the gradient by central differences."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from varestorer_core.distill import losses, perceptual
from varestorer_core.distill.entropy import SHARPNESS, entropy_loss, residuals, soft_bit_logits
from varestorer_core.distill.train_student import StudentSettings, straight_through_codes
from varestorer_core.distill.train_tokenizer import prefix_schedule
from varestorer_core.errors import SettingError
from varestorer_core.metrics import gmsd
from varestorer_core.models.bsq import quantize
from varestorer_core.schedule import get_schedule

Array = NDArray[np.float64]
SCHEDULE = prefix_schedule(get_schedule(1.0, "0.06M"), 3)
"""Grids of 1, 2 and 4 tokens a side."""
WEIGHTS = losses.scale_weights(SCHEDULE).double()


def pair(*shape: int, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(shape, generator=generator, dtype=torch.double) for _ in range(2))
    return (a * 2 - 1) * size, (b * 2 - 1) * size


def check(
    loss: Callable[[torch.Tensor], torch.Tensor],
    plain: Callable[[Array], float],
    at: torch.Tensor,
    entries: int = 40,
) -> None:
    """Compare value and gradient at a point; of many entries, some by chance."""
    at = at.clone().requires_grad_(True)
    value = loss(at)
    value.backward()
    start = at.detach().numpy()
    assert float(value.detach()) == pytest.approx(plain(start), rel=1e-6, abs=1e-9)
    assert at.grad is not None
    gradient = at.grad.numpy().flatten()
    assert np.abs(gradient).max() > 0
    chosen = np.random.default_rng(0).permutation(start.size)[:entries]
    for entry in chosen:
        near = []
        for sign in (1, -1):
            moved = start.copy()
            moved.flat[entry] += sign * 1e-5
            near.append(plain(moved))
        slope = (near[0] - near[1]) / 2e-5
        assert gradient[entry] == pytest.approx(slope, rel=1e-4, abs=1e-8), entry


def probabilities(logits: Array) -> Array:
    """Return the share of the second of two logits."""
    e = np.exp(logits)
    return e[..., 1] / e.sum(-1)


def per_scale_mean(each: Array) -> float:
    """Average (B, L, d) within every scale, then over the scales."""
    return float(np.mean([each[:, a:b].mean() for a, b in SCHEDULE.spans]))


def entropy(p: Array) -> Array:
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


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


def test_psnr():
    a = torch.zeros(1, 3, 4, 4)
    assert losses.psnr(a, a + 0.2) == pytest.approx(20 * math.log10(2 / 0.2), abs=1e-4)


# The picture through straight-through bits


def plain_enlarge(grid: Array, size: int) -> Array:
    """Return (d, h, w) on a larger square grid: bilinear, half-pixel centres, edges repeated."""
    side = grid.shape[-1]
    result = np.zeros((grid.shape[0], size, size))
    for y in range(size):
        for x in range(size):
            v, u = ((c + 0.5) * side / size - 0.5 for c in (y, x))
            v0, u0 = math.floor(v), math.floor(u)
            for dv, du in ((0, 0), (0, 1), (1, 0), (1, 1)):
                weight = abs(1 - dv - (v - v0)) * abs(1 - du - (u - u0))
                row, column = (min(max(c, 0), side - 1) for c in (v0 + dv, u0 + du))
                result[:, y, x] += weight * grid[:, row, column]
    return result


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

    # Forwards: the codes of the likelier bits.
    p = probabilities(logits.detach().numpy())[0]
    codes = np.where(p > 0.5, 1, -1) / math.sqrt(3)

    def plain(values: Array) -> float:
        error = decoder.numpy() @ plain_sum(values).ravel() - picture.numpy()
        return float((error**2).mean())

    assert float(loss.detach()) == pytest.approx(plain(codes), rel=1e-9)
    # Backwards: the slope at those codes, as if a code were its expectation (2 p - 1) / sqrt(d).
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


def plain_residuals(features: Array, held: Array) -> list[Array]:
    """Return what each scale has to code; `held` are the features whose codes count as constants."""
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


def test_the_perceptual_loss_is_the_structural_one_by_default(caplog):
    a, b = pair(1, 3, 32, 32)
    with caplog.at_level("INFO"):
        loss = perceptual.perceptual_loss("structural")
    assert float(loss(a, b)) == float(losses.structural_loss(a, b))
    assert "perceptual loss: structural" in caplog.text


def test_lpips_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setitem(perceptual.importlib.sys.modules, "lpips", None)
    message = r"varestorer\[train\], or use --perceptual structural"
    with pytest.raises(SettingError, match=message):
        StudentSettings(perceptual="lpips")  # before any stage of `distill all`
    with pytest.raises(SettingError, match=message):
        perceptual.perceptual_loss("lpips")


class FakePackage:
    """Stands for lpips: mean absolute difference, per picture."""

    class LPIPS(torch.nn.Module):
        def __init__(self, net: str, verbose: bool):
            super().__init__()
            assert net == "vgg"
            assert not verbose
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True) * self.weight


def test_lpips_without_weights_names_the_file(monkeypatch, tmp_path):
    monkeypatch.setitem(perceptual.importlib.sys.modules, "lpips", FakePackage)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(SettingError, match=perceptual.BACKBONE_FILE):
        perceptual.perceptual_loss("lpips")


def test_lpips_is_frozen_and_averaged(monkeypatch, tmp_path):
    monkeypatch.setitem(perceptual.importlib.sys.modules, "lpips", FakePackage)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / perceptual.BACKBONE_FILE).touch()
    a, b = pair(2, 3, 8, 8)
    loss = perceptual.perceptual_loss("lpips")(a.requires_grad_(True), b)
    assert float(loss.detach()) == pytest.approx(float((a - b).detach().abs().mean()))
    loss.backward()
    assert a.grad is not None


def test_another_perceptual_loss_is_refused():
    with pytest.raises(SettingError, match="structural, lpips"):
        StudentSettings(perceptual="vgg")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SettingError, match="structural, lpips"):
        perceptual.perceptual_loss("vgg")  # pyright: ignore[reportArgumentType]
