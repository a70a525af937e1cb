"""Degrading IMAGE batches with the core's presets."""

from __future__ import annotations

from itertools import accumulate
from typing import TypeVar

from torch import Tensor

from ...varestorer_core.degradation import PRESETS, degrade, picture_generator
from .images import join_alpha, to_alpha, to_image, to_pictures
from .progress import Progress

T = TypeVar("T")

PRESET_NAMES = tuple(PRESETS)


def degrade_images(
    images: list[Tensor], presets: list[str], scales: list[float], seeds: list[int]
) -> list[Tensor]:
    """Return degraded IMAGE batches; the last entry of shorter lists is repeated.

    Pictures are numbered across all batches, like the files of `varestorer degrade`: picture i uses a generator
    seeded with the seed and i.
    """
    counts = [len(image) for image in images]
    firsts = [0, *accumulate(counts)]
    runs = max(map(len, (images, presets, scales, seeds)))
    total = sum(_entry(counts, run) for run in range(runs))
    progress = Progress()
    done, results = 0, []
    for run in range(runs):
        image, first = _entry(images, run), firsts[min(run, len(images) - 1)]
        degraded = []
        for index, picture in enumerate(to_pictures(image), first):
            generator = picture_generator(_entry(seeds, run), index)
            scale = _entry(scales, run)
            # Progress within a picture too, because a large one needs a while.
            on_step = progress.part(done, total)
            preset = _entry(presets, run)
            degraded.append(degrade(picture, preset, generator, scale=scale, on_step=on_step))
            done += 1
        results.append(join_alpha(to_image(degraded), to_alpha(image)))
    return results


def _entry(values: list[T], index: int) -> T:
    return values[min(index, len(values) - 1)]
