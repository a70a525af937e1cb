"""NIQE, the natural image quality evaluator: the distance of a picture's local statistics from those of photographs.

Source: Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", 2013. The parameters of
pristine photographs are the authors', as BasicSR 1.4.2 distributes them (Apache License 2.0), kept in
assets/niqe.safetensors.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from ..assets import NIQE_PARAMETERS, asset_path
from .luma import studio_luma

_BLOCK = 96
_WINDOW, _SIGMA = 7, 7 / 6
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = torch.arange(0.2, 10.001, 0.001, dtype=torch.float64)
"""Candidates for the shape of a generalised Gaussian."""


def niqe(picture: Tensor) -> float:
    """Return the NIQE of a picture (3, H, W) in [0, 1]; lower is more like a photograph.

    Computed on whole blocks of 96 x 96 pixels from the upper left corner; incomplete blocks are ignored.

    Raises:
        ValueError: for a picture without two such blocks.
    """
    height, width = (side // _BLOCK * _BLOCK for side in picture.shape[-2:])
    if height * width < 2 * _BLOCK**2:
        raise ValueError(
            f"NIQE needs two blocks of {_BLOCK} x {_BLOCK} pixels, got {picture.shape[-1]} x {picture.shape[-2]}."
        )
    brightness = studio_luma(picture.double())[:height, :width].round()
    features = []
    for scale in (1, 2):
        features.append(_features(_normalised(brightness), _BLOCK // scale))
        brightness = _halved(brightness)
    blocks = torch.cat(features, dim=1)
    mean, covariance = _pristine()
    whole = blocks[~blocks.isnan().any(1)]
    own_mean, own_covariance = blocks.nanmean(0), torch.cov(whole.T)
    distance = mean - own_mean
    inverse = torch.linalg.pinv((covariance + own_covariance) / 2)
    return float((distance @ inverse @ distance).sqrt())


@lru_cache(maxsize=None)
def _pristine() -> tuple[Tensor, Tensor]:
    """Return mean (36,) and covariance (36, 36) of the features of pristine photographs."""
    tensors = load_file(asset_path(NIQE_PARAMETERS))
    return tensors["mean"], tensors["covariance"]


def _normalised(brightness: Tensor) -> Tensor:
    """Return the luma (H, W), 0 to 255, minus its local mean, divided by its local standard deviation plus 1."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    kernel = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()

    def local_mean(x: Tensor) -> Tensor:
        planes = F.pad(x[None, None], (_WINDOW // 2,) * 4, mode="replicate")
        return F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[0, 0]

    mean = local_mean(brightness)
    deviation = (local_mean(brightness.square()) - mean.square()).abs().sqrt()
    return (brightness - mean) / (deviation + 1)


def _features(normalised: Tensor, side: int) -> Tensor:
    """Return 18 features (blocks, 18) of square blocks: shapes and widths of values and of products of neighbours."""
    rows, columns = normalised.shape[0] // side, normalised.shape[1] // side
    # Blocks in column-major order, as in the authors' program; the order has no effect.
    blocks = (
        normalised.reshape(rows, side, columns, side).permute(0, 2, 1, 3).reshape(-1, side, side)
    )
    shape, left, right, _ = _asymmetric_gaussian(blocks.flatten(1))
    features = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        # Neighbours wrap around at a block's edges, as in the authors' program.
        products = (blocks * blocks.roll(shift, dims=(1, 2))).flatten(1)
        shape, left, right, ratio = _asymmetric_gaussian(products)
        features += [shape, (right - left) * ratio, left, right]
    return torch.stack(features, dim=1)


def _asymmetric_gaussian(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fit asymmetric generalised Gaussians to values (B, n) by their moments.

    Returns:
        Shapes, left widths, right widths (B,), and the gamma function of 2 / shape over that of 1 / shape.
    """
    inverse = 1 / _SHAPES
    one, two, three = (torch.lgamma(n * inverse) for n in (1, 2, 3))
    ratios = torch.exp(2 * two - one - three)
    left, right = (_half_deviation(values, values * sign < 0) for sign in (1, -1))
    skew = left / right
    flatness = values.abs().mean(1).square() / values.square().mean(1)
    wanted = flatness * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    best = (ratios - wanted[:, None]).square().argmin(1)
    width = torch.exp((one - three)[best] / 2)
    return _SHAPES[best], left * width, right * width, torch.exp((two - one)[best])


def _half_deviation(values: Tensor, side: Tensor) -> Tensor:
    """Return the root mean square of each row's values where `side` is true; NaN for rows where it never is."""
    return ((values.square() * side).sum(1) / side.sum(1)).sqrt()


def _halved(brightness: Tensor) -> Tensor:
    """Return the picture (H, W) at half size, with the cubic filter over eight pixels of MATLAB's imresize."""
    distance = (torch.arange(8, dtype=torch.float64) - 3.5).abs() / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    kernel = torch.where(distance < 1, near, far)
    kernel = kernel / kernel.sum()

    def halve_rows(x: Tensor) -> Tensor:
        mirrored = torch.cat([x[:3].flip(0), x, x[-3:].flip(0)])
        return F.conv2d(mirrored[None, None], kernel.view(1, 1, -1, 1), stride=(2, 1))[0, 0]

    return halve_rows(halve_rows(brightness).T).T
