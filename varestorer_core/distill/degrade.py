"""Low-quality versions of training pictures, by the presets of `degradation`.

A run names one preset or several; every picture draws one of them with equal chance. All randomness comes from the
caller's torch generator, so that a resumed run degrades as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..degradation import Preset, degrade, get_preset
from ..errors import SettingError

DEFAULT_MIX = ("x4", "mild")
"""Presets of the stages that see degraded pictures."""


def parse_mix(text: str) -> tuple[str, ...]:
    """Return the preset names of a comma-separated list.

    Raises:
        SettingError: if it is empty, or one of them is no preset.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    _presets(names)
    return names


def degrade_batch(
    pictures: NDArray[np.uint8], mix: tuple[str, ...], generator: torch.Generator
) -> NDArray[np.uint8]:
    """Degrade (B, H, W, 3) uint8 pictures, keeping their size, each with its own draw."""
    presets = _presets(mix)
    chosen = torch.randint(len(presets), (len(pictures),), generator=generator).tolist()
    seeds = torch.randint(2**31 - 1, (len(pictures),), generator=generator).tolist()
    degraded = [
        _degrade(picture, presets[index], np.random.default_rng(seed))
        for picture, index, seed in zip(pictures, chosen, seeds, strict=True)
    ]
    return np.stack(degraded)


def _presets(mix: tuple[str, ...]) -> list[Preset]:
    """Return the presets, with the enlargement that inference has wherever they ask for none."""
    if not mix:
        raise SettingError("expected the name of a degradation preset, got none.")
    presets = [get_preset(name) for name in mix]
    # Restoring enlarges its input by Lanczos, so the network must learn from pictures made like that.
    return [
        replace(preset, final_filter="lanczos") if preset.final_filter == "bicubic" else preset
        for preset in presets
    ]


def _degrade(
    picture: NDArray[np.uint8], preset: Preset, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the degraded picture (H, W, 3) uint8 of a picture of that kind."""
    image = torch.tensor(picture).permute(2, 0, 1).float() / 255
    degraded = degrade(image, preset, generator)
    return (degraded * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
