"""Low-quality versions of training pictures, by the presets of `degradation`.

A run lists one or several presets, one of which is drawn for each picture with equal probability; a preset that is
listed twice is drawn twice as often. "social@2" reduces pictures to half the size and enlarges them again with a
Lanczos filter, as in restoring at scale 2. All randomness comes from the caller's torch generator, so that a resumed
run produces the same pictures as an uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..degradation import Preset, degrade, get_preset
from ..errors import SettingError
from ..resize import resize_lanczos

DEFAULT_MIX = ("x4", "mild")
"""Default presets of the stages that use degraded pictures."""


@dataclass(frozen=True)
class _Kind:
    """A preset, and the factor by which its pictures are reduced before they are enlarged again."""

    preset: Preset
    scale: float


def parse_mix(text: str) -> tuple[str, ...]:
    """Return the entries of a comma-separated list of presets, such as "mild, social@2".

    Raises:
        SettingError: if it is empty, or one of them is not a preset or has no valid scale.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    _kinds(names)
    return names


def degrade_batch(
    pictures: NDArray[np.uint8], mix: tuple[str, ...], generator: torch.Generator
) -> NDArray[np.uint8]:
    """Degrade (B, H, W, 3) uint8 pictures independently, keeping their size."""
    kinds = _kinds(mix)
    chosen = torch.randint(len(kinds), (len(pictures),), generator=generator).tolist()
    seeds = torch.randint(2**31 - 1, (len(pictures),), generator=generator).tolist()
    degraded = [
        _degrade(picture, kinds[index], np.random.default_rng(seed))
        for picture, index, seed in zip(pictures, chosen, seeds, strict=True)
    ]
    return np.stack(degraded)


def _kinds(mix: tuple[str, ...]) -> list[_Kind]:
    if not mix:
        raise SettingError("Expected the name of a degradation preset, got none.")
    return [_kind(entry) for entry in mix]


def _kind(entry: str) -> _Kind:
    name, at, text = entry.partition("@")
    preset = get_preset(name)
    if at:
        try:
            scale = float(text)
        except ValueError:
            scale = 0.0
        if not 1 <= scale <= 8:
            raise SettingError(
                f"The scale after @ must be a number from 1 to 8, as in {name}@2, got {entry!r}."
            )
    else:
        scale = 1.0
    if scale == 1 and preset.final_filter == "bicubic":
        # Restoring enlarges its input with a Lanczos filter, so training must do the same.
        preset = replace(preset, final_filter="lanczos")
    return _Kind(preset, scale)


def _degrade(
    picture: NDArray[np.uint8], kind: _Kind, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the degraded version (H, W, 3) uint8 of a picture."""
    image = torch.tensor(picture).permute(2, 0, 1).float() / 255
    degraded = degrade(image, kind.preset, generator, scale=kind.scale)
    enlarged = resize_lanczos(degraded, (image.shape[-2], image.shape[-1]))
    return (enlarged * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
