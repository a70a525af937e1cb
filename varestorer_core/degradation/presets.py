"""Named degradations, with the ranges of their random parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import SettingError
from .blur import Blur, Shape, SincFilter
from .compression import Jpeg
from .low_light import LowLight
from .motion import MotionBlur
from .noise import GaussianNoise, PoissonNoise, SaltAndPepper
from .rain import Rain
from .resizing import Filter, ResizeBy, ResizeToOutput, ShrinkBy
from .steps import EitherOrder, OneOf, Range, Sometimes, Step


@dataclass(frozen=True)
class Preset:
    """A sequence of steps."""

    summary: str
    """One line for help texts."""
    steps: tuple[Step, ...]
    final_filter: Filter = "bicubic"
    """Filter for the final resize to the size that the caller asked for, if the steps end at another."""


OFFICIAL = Preset(
    "what the official release trained on: strong blur, 1 to 12 times smaller, noise, JPEG",
    (
        Blur(sigma=(0.1, 12.0), isotropic=0.5, size=(41, 41)),
        ShrinkBy((1.0, 12.0), "bilinear"),
        GaussianNoise(sigma=(0.0, 15.0)),
        Jpeg(quality=(30, 100)),
    ),
    final_filter="bilinear",
)

_SHAPES: tuple[tuple[float, Shape], ...] = (
    (0.70, "gaussian"),
    (0.15, "generalised"),
    (0.15, "plateau"),
)
_FILTERS: tuple[Filter, ...] = ("area", "bilinear", "bicubic")


def _random_blur(sigma: Range) -> OneOf:
    bell = Blur(sigma, isotropic=0.69, shapes=_SHAPES, size=(7, 21))
    return OneOf(((0.9, bell), (0.1, SincFilter(cutoff=(math.pi / 5, math.pi)))))


def _random_noise(sigma: Range, strength: Range) -> OneOf:
    return OneOf(((0.5, GaussianNoise(sigma, grey=0.4)), (0.5, PoissonNoise(strength, grey=0.4))))


REAL = Preset(
    "two rounds of random blur, resizing, noise and JPEG, as in Real-ESRGAN, ending 4 times smaller",
    (
        _random_blur((0.2, 3.0)),
        Sometimes(
            0.9,
            OneOf(
                ((0.22, ResizeBy((1.0, 1.5), _FILTERS)), (0.78, ResizeBy((0.15, 1.0), _FILTERS)))
            ),
        ),
        _random_noise((1.0, 30.0), (0.05, 3.0)),
        Jpeg(quality=(30, 95)),
        Sometimes(0.8, _random_blur((0.2, 1.5))),
        ResizeBy((0.3 / 4, 1.2 / 4), _FILTERS, of="original"),
        _random_noise((1.0, 25.0), (0.05, 2.5)),
        EitherOrder(
            (
                ResizeBy((1 / 4, 1 / 4), _FILTERS, of="original"),
                Sometimes(0.8, SincFilter(cutoff=(math.pi / 3, math.pi))),
            ),
            (Jpeg(quality=(30, 95)),),
        ),
    ),
)

MILD = Preset(
    "slight blur, 1.3 to 2.6 times smaller, slight noise, JPEG",
    (
        Blur(sigma=(0.2, 2.0), isotropic=0.5, size=(41, 41)),
        ShrinkBy((1.3, 2.6), "bilinear"),
        GaussianNoise(sigma=(0.0, 10.0)),
        Jpeg(quality=(45, 95)),
    ),
    final_filter="lanczos",
)

SOCIAL = Preset(
    "slight blur, 2 to 3 times smaller, slight noise, JPEG, perhaps twice: as social networks do",
    (
        Blur(sigma=(0.4, 1.6), isotropic=0.5, size=(21, 21)),
        ShrinkBy((2.0, 3.0), "area"),
        GaussianNoise(sigma=(1.0, 8.0)),
        Jpeg(quality=(40, 80)),
        Sometimes(0.5, Jpeg(quality=(40, 80))),
    ),
    final_filter="lanczos",
)

X4 = Preset(
    "blur, exactly 4 times smaller, noise, JPEG; the bicubic enlargement is clearly bad",
    (
        Blur(sigma=(1.0, 4.0), isotropic=0.5, size=(41, 41)),
        ShrinkBy((4.0, 4.0), "area"),
        GaussianNoise(sigma=(4.0, 14.0)),
        Jpeg(quality=(35, 75)),
    ),
)

RAIN = Preset(
    "slanting streaks under a thin veil",
    (
        ResizeToOutput(),
        Rain(
            density=(0.001, 0.004),
            length=(12.0, 40.0),
            width=(0.4, 0.9),
            slant=(-30.0, 30.0),
            opacity=(0.4, 0.8),
            veil=(0.05, 0.25),
        ),
        Jpeg(quality=(80, 95)),
    ),
)

LOW_LIGHT = Preset(
    "3 to 15 percent of the light, with sensor noise",
    (
        ResizeToOutput(),
        LowLight(exposure=(0.03, 0.15), full_well=(1000.0, 4000.0), read_noise=(1.0, 4.0)),
        Jpeg(quality=(80, 95)),
    ),
)

SALT_AND_PEPPER = Preset(
    "2 to 15 percent of the pixels white or black",
    (ResizeToOutput(), SaltAndPepper(density=(0.02, 0.15))),
)

HEAVY_JPEG = Preset(
    "JPEG of quality 5 to 15",
    (ResizeToOutput(), Jpeg(quality=(5, 15))),
)

MOTION_BLUR = Preset(
    "a moving or shaken camera, slight noise, weak JPEG",
    (
        ResizeToOutput(),
        MotionBlur(length=(5.0, 20.0), shaken=0.5),
        GaussianNoise(sigma=(0.0, 4.0)),
        Jpeg(quality=(80, 95)),
    ),
)

PRESETS: dict[str, Preset] = {
    "official": OFFICIAL,
    "real": REAL,
    "mild": MILD,
    "social": SOCIAL,
    "x4": X4,
    "rain": RAIN,
    "low_light": LOW_LIGHT,
    "salt_and_pepper": SALT_AND_PEPPER,
    "heavy_jpeg": HEAVY_JPEG,
    "motion_blur": MOTION_BLUR,
}


def get_preset(name: str) -> Preset:
    """Return the preset with a name.

    Raises:
        SettingError: if there is none.
    """
    if name not in PRESETS:
        raise SettingError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}.")
    return PRESETS[name]
