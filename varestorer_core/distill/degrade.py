"""Degradation of the kind that the official release trained on: blur, shrink, noise, JPEG, enlarge.

Blur is a 41 x 41 Gaussian, isotropic or anisotropic with equal chance; shrinking is bilinear without
antialiasing. Everything random comes from the generator that the caller passes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from ..resize import resize_lanczos

_KERNEL = 41


@dataclass(frozen=True)
class DegradeRanges:
    """Uniform ranges (low, high) of every step. Pixel values count 0 to 255."""

    blur_sigma: tuple[float, float]
    """Standard deviation of the blur in pixels; both axes' own if anisotropic."""
    shrink: tuple[float, float]
    """Factor by which the picture becomes smaller."""
    noise_sigma: tuple[float, float]
    jpeg_quality: tuple[int, int]
    enlarge: Literal["bilinear", "lanczos"]
    """How the small picture comes back to its size."""


OFFICIAL = DegradeRanges((0.1, 12.0), (1.0, 12.0), (0.0, 15.0), (30, 100), "bilinear")
"""What the official release trained on."""

MILD = DegradeRanges((0.2, 2.0), (1.3, 2.6), (0.0, 10.0), (45, 95), "lanczos")
"""For small models, whose tile shows too little context to undo more; enlarged as inference does."""

PRESETS = {"official": OFFICIAL, "mild": MILD}


def degrade(
    picture: NDArray[np.uint8], ranges: DegradeRanges, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the degraded picture (H, W, 3) uint8 of a picture of that shape."""
    height, width = picture.shape[:2]
    small = shrink_degraded(picture, ranges, rng)
    tensor = torch.from_numpy(small).permute(2, 0, 1).float() / 255
    if ranges.enlarge == "lanczos":
        large = resize_lanczos(tensor, (height, width))
    else:
        large = F.interpolate(tensor[None], (height, width), mode="bilinear")[0]
    return (large.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def degrade_batch(
    pictures: NDArray[np.uint8], ranges: DegradeRanges, generator: torch.Generator
) -> NDArray[np.uint8]:
    """Degrade (B, H, W, 3) uint8 pictures, each with its own draw from the generator."""
    seeds = torch.randint(2**31 - 1, (len(pictures),), generator=generator).tolist()
    return np.stack(
        [degrade(p, ranges, np.random.default_rng(s)) for p, s in zip(pictures, seeds, strict=True)]
    )


def shrink_degraded(
    picture: NDArray[np.uint8], ranges: DegradeRanges, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the small degraded picture (h, w, 3) uint8, before it is enlarged again."""
    height, width = picture.shape[:2]
    blurred = _blur(picture.astype(np.float32), _kernel(ranges.blur_sigma, rng))
    factor = rng.uniform(*ranges.shrink)
    size = (max(1, round(height / factor)), max(1, round(width / factor)))
    tensor = torch.from_numpy(blurred).permute(2, 0, 1)[None]
    small = F.interpolate(tensor, size, mode="bilinear")[0].permute(1, 2, 0).numpy()
    sigma = rng.uniform(*ranges.noise_sigma)
    noisy = small + sigma * rng.standard_normal(small.shape, dtype=np.float32)
    quality = int(rng.integers(ranges.jpeg_quality[0], ranges.jpeg_quality[1] + 1))
    return _jpeg(noisy.clip(0, 255).round().astype(np.uint8), quality)


def _kernel(sigma: tuple[float, float], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a normalised Gaussian (41, 41), isotropic half the time, else at a random angle."""
    first, second = rng.uniform(*sigma, 2)
    angle = rng.uniform(0, np.pi)
    if rng.random() < 0.5:
        second = first
    half = _KERNEL // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    weights = np.exp(-0.5 * ((u / first) ** 2 + (v / second) ** 2))
    return (weights / weights.sum()).astype(np.float32)


def _blur(picture: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convolve (H, W, 3) with a (41, 41) kernel, edges reflected, through the Fourier transform."""
    half = _KERNEL // 2
    padded = np.pad(picture, ((half, half), (half, half), (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    product = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[..., None]
    full = np.fft.irfft2(product, shape, axes=(0, 1))
    return full[2 * half :, 2 * half :].astype(np.float32)


def _jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return the picture after one JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))
