"""Procedural training pictures: dead leaves with texture, gratings, lines and text.

Occluding shapes with power-law radii have the edge and scale statistics of photographs (Lee, Mumford and
Huang, "Occlusion models for natural images"), so a tokenizer trained only on them also reconstructs photographs.
Palettes have a wide range of grey levels and little chroma, like photographs. Pictures are drawn at twice their
size and area-averaged, so that edges are antialiased as by a lens. Uses only NumPy and Pillow; a picture is a
function of (seed, index).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FloatArray = NDArray[np.floating]

_OVERSAMPLE = 2
_MOST_LEAVES = 500
_SHAPES = ("disc", "ellipse", "rectangle", "polygon", "line")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&%?!.,:+-"


@dataclass(frozen=True)
class _Scene:
    """Common properties of all leaves of one picture."""

    palette: FloatArray
    """(n, 3) colours in [0, 1]."""
    texture: FloatArray
    """(S, S) zero-mean, unit-variance 1/f noise, cropped anew for each leaf."""
    contrast: float
    """Largest texture amplitude."""


def generate_picture(seed: int, index: int, size: int = 192) -> NDArray[np.uint8]:
    """Return picture number `index` of the series `seed`, (size, size, 3) uint8 RGB."""
    rng = np.random.default_rng([seed, index])
    side = size * _OVERSAMPLE
    scene = _Scene(
        palette=_palette(rng),
        texture=_power_law_noise(rng, side, exponent=rng.uniform(0.7, 1.6)),
        contrast=float(rng.choice([0.03, 0.08, 0.16], p=[0.3, 0.4, 0.3])),
    )
    canvas = _background(rng, scene, side)
    exponent = rng.uniform(1.5, 2.5)
    smallest, largest = side * rng.uniform(0.008, 0.04), side * rng.uniform(0.2, 0.45)
    area, wanted = 0.0, side * side * rng.uniform(0.5, 3)
    for _ in range(_MOST_LEAVES):
        radius = _power_law(rng, exponent, smallest, largest)
        _draw_leaf(rng, scene, canvas, radius)
        area += 2 * radius * radius  # about the mean area of the shapes
        if area > wanted:
            break
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 4))):
            _draw_text(rng, scene, canvas)
    canvas += 0.5 * scene.contrast * rng.random() * scene.texture[..., None] * rng.random()
    image = Image.fromarray((canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.random() < 0.15:  # a picture slightly out of focus
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(1, 4)))
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def _palette(rng: np.random.Generator) -> FloatArray:
    """Return colours: a wide range of grey levels plus a small tint, stronger in one picture of four."""
    count = int(rng.integers(4, 14))
    grey = rng.uniform(0.02, 0.98, (count, 1))
    chroma = rng.choice([0.02, 0.06, 0.16], p=[0.35, 0.4, 0.25])
    common, own = rng.normal(0, chroma, (1, 3)), rng.normal(0, chroma, (count, 3))
    return (grey + common + own).clip(0, 1).astype(np.float32)


def _power_law(rng: np.random.Generator, exponent: float, low: float, high: float) -> float:
    """Draw from p(r) ~ r^-exponent on [low, high] by inverting the distribution function."""
    a = 1 - exponent
    return float((low**a + rng.random() * (high**a - low**a)) ** (1 / a))


def _power_law_noise(rng: np.random.Generator, side: int, exponent: float) -> FloatArray:
    """Return (side, side) noise whose amplitude spectrum falls as 1/f^exponent."""
    spectrum = np.fft.rfft2(rng.standard_normal((side, side), dtype=np.float32))
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = 1
    spectrum *= frequency**-exponent
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(side, side))
    return (noise / noise.std()).astype(np.float32)


def _background(rng: np.random.Generator, scene: _Scene, side: int) -> FloatArray:
    """Return a (side, side, 3) linear gradient between two palette colours."""
    first, second = scene.palette[rng.integers(0, len(scene.palette), 2)]
    ramp = _ramp(rng, side, side)[..., None]
    return (first + (second - first) * ramp).astype(np.float32)


def _ramp(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Return a (height, width) ramp from about 0 to 1 in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None]
    return (0.5 + y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))).astype(np.float32)


def _draw_leaf(rng: np.random.Generator, scene: _Scene, canvas: FloatArray, radius: float) -> None:
    """Paint one textured shape over `canvas` (S, S, 3), in place."""
    softness = rng.uniform(0.5, 0.25 * radius + 1) if rng.random() < 0.33 else 0.0
    mask = _leaf_mask(rng, radius, softness)
    side = canvas.shape[0]
    half = mask.shape[0] // 2
    cy, cx = (int(v) for v in rng.integers(0, side, 2))
    top, left = max(cy - half, 0), max(cx - half, 0)
    bottom, right = min(cy - half + mask.shape[0], side), min(cx - half + mask.shape[1], side)
    if bottom <= top or right <= left:
        return
    y0, x0 = top - (cy - half), left - (cx - half)
    cover = mask[y0 : y0 + bottom - top, x0 : x0 + right - left, None]
    fill = _leaf_fill(rng, scene, bottom - top, right - left)
    region = canvas[top:bottom, left:right]
    region += (fill - region) * cover


def _leaf_mask(rng: np.random.Generator, radius: float, softness: float) -> FloatArray:
    """Return the square coverage map in [0, 1] of one random shape."""
    half = int(np.ceil(radius + 2 * softness)) + 1
    image = Image.new("L", (2 * half + 1, 2 * half + 1))
    draw = ImageDraw.Draw(image)
    shape = str(rng.choice(_SHAPES, p=[0.3, 0.2, 0.2, 0.2, 0.1]))
    angle = rng.uniform(0, 2 * np.pi)
    if shape == "disc":
        draw.ellipse([half - radius, half - radius, half + radius, half + radius], fill=255)
    elif shape == "line":
        dy, dx = radius * np.sin(angle), radius * np.cos(angle)
        width = max(1, int(rng.uniform(1, 0.15 * radius + 2)))
        draw.line([half - dx, half - dy, half + dx, half + dy], fill=255, width=width)
    else:
        points = _outline(rng, shape, radius)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        draw.polygon([(float(x), float(y)) for x, y in points @ turn + half], fill=255)
    if softness:
        image = image.filter(ImageFilter.GaussianBlur(softness))
    return np.asarray(image, dtype=np.float32) / 255


def _outline(rng: np.random.Generator, shape: str, radius: float) -> NDArray[np.float64]:
    """Return the corners (n, 2) of an unrotated shape centred at the origin."""
    aspect = rng.uniform(0.2, 0.9)
    if shape == "rectangle":
        w, h = radius / np.hypot(1, aspect), radius * aspect / np.hypot(1, aspect)
        return np.array([(-w, -h), (w, -h), (w, h), (-w, h)])
    if shape == "ellipse":
        theta = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        return radius * np.stack([np.cos(theta), aspect * np.sin(theta)], axis=1)
    corners = int(rng.integers(3, 9))
    theta = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = radius * rng.uniform(0.4, 1, corners)
    return np.stack([reach * np.cos(theta), reach * np.sin(theta)], axis=1)


def _leaf_fill(rng: np.random.Generator, scene: _Scene, height: int, width: int) -> FloatArray:
    """Return the (height, width, 3) fill of a leaf: a colour, possibly shaded, plus a pattern."""
    colour = scene.palette[rng.integers(len(scene.palette))]
    fill = np.broadcast_to(colour, (height, width, 3)).astype(np.float32)
    if rng.random() < 0.4:
        fill = fill + (_ramp(rng, height, width)[..., None] - 0.5) * np.float32(rng.normal(0, 0.25))
    pattern = rng.random()
    if pattern < 0.6:
        side = scene.texture.shape[0]
        y, x = (int(rng.integers(0, side - n + 1)) for n in (height, width))
        crop = scene.texture[y : y + height, x : x + width, None]
        fill = fill + crop * np.float32(scene.contrast * rng.uniform(0.2, 1))
    elif pattern < 0.7:
        fill = fill + _grating(rng, height, width)[..., None]
    return fill


def _grating(rng: np.random.Generator, height: int, width: int) -> FloatArray:
    """Return a (height, width) sine or square wave of period 4 to 40 oversampled pixels."""
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4), np.log(40)))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = np.sin(
        (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + rng.uniform(0, 6.3)
    )
    if rng.random() < 0.3:
        wave = np.sign(wave)
    return (wave * rng.uniform(0.03, 0.25)).astype(np.float32)


def _draw_text(rng: np.random.Generator, scene: _Scene, canvas: FloatArray) -> None:
    """Write one short random word over `canvas` (S, S, 3), in place."""
    side = canvas.shape[0]
    word = "".join(rng.choice(list(_LETTERS), int(rng.integers(2, 10))))
    font = ImageFont.load_default(size=float(rng.uniform(0.03, 0.14) * side))
    image = Image.new("L", (side, side))
    position = (float(rng.uniform(0, 0.7) * side), float(rng.uniform(0, 0.9) * side))
    ImageDraw.Draw(image).text(position, word, fill=255, font=font)
    if rng.random() < 0.5:
        image = image.rotate(float(rng.uniform(-40, 40)), Image.Resampling.BILINEAR)
    cover = (np.asarray(image, dtype=np.float32) / 255)[..., None]
    canvas += (scene.palette[rng.integers(len(scene.palette))] - canvas) * cover
