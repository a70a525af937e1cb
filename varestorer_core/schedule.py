"""Scale schedules: the token grids of next-scale prediction, coarse to fine (Infinity, section 3).

A schedule is a prefix of a list of 13 grids. The list depends on the picture's height/width ratio,
the prefix on the pixel class ("0.25M" means about a quarter of a million pixels at 16 pixels a token).
Rotary coordinates always refer to the 13th grid, so a schedule keeps the full list.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from .grids import GRIDS

PIXEL_CLASSES: dict[str, int] = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}
"""Pixel class to number of scales."""

RATIOS: tuple[float, ...] = tuple(GRIDS)
"""Height/width ratios that have a schedule."""


@dataclass(frozen=True)
class ScaleSchedule:
    """Token grids of one picture, coarse to fine. Hashable, for use as a cache key."""

    ratio: float
    pixel_class: str
    grids: tuple[tuple[int, int], ...]
    """(h, w) of each of the K scales."""
    full_grids: tuple[tuple[int, int], ...]
    """All 13 grids of the ratio; rotary positions are laid out over these."""

    @property
    def num_scales(self) -> int:
        """K."""
        return len(self.grids)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tokens per scale."""
        return tuple(h * w for h, w in self.grids)

    @property
    def num_tokens(self) -> int:
        """L: the number of tokens of all scales, each of which has logits."""
        return sum(self.sizes)

    @property
    def num_tokens_long(self) -> int:
        """Tokens including the appended full-resolution code map of the long LQ pyramid."""
        return self.num_tokens + self.sizes[-1]

    @property
    def last_grid(self) -> tuple[int, int]:
        """(h, w) of the finest scale, equal to the feature grid of the tokenizer."""
        return self.grids[-1]

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) token rows of each scale."""
        stops = tuple(accumulate(self.sizes))
        return tuple(zip((0, *stops), stops, strict=False))

    def pixel_size(self, patch_size: int) -> tuple[int, int]:
        """Return the picture's (height, width) in pixels for a tokenizer of that patch size."""
        h, w = self.last_grid
        return h * patch_size, w * patch_size


@lru_cache(maxsize=None)
def get_schedule(ratio: float = 1.0, pixel_class: str = "0.25M") -> ScaleSchedule:
    """Return the schedule of a ratio height / width of `RATIOS` and a class of `PIXEL_CLASSES`.

    Raises:
        ValueError: if there is no such ratio or class.
    """
    if ratio not in GRIDS:
        raise ValueError(f"ratio must be one of {', '.join(map(str, RATIOS))}, got {ratio}.")
    if pixel_class not in PIXEL_CLASSES:
        raise ValueError(
            f"pixel_class must be one of {', '.join(PIXEL_CLASSES)}, got {pixel_class!r}."
        )
    grids = GRIDS[ratio]
    return ScaleSchedule(ratio, pixel_class, grids[: PIXEL_CLASSES[pixel_class]], grids)


def classes_by_side(patch_size: int) -> dict[int, str]:
    """Return the pixel classes by the side in pixels of their square tiles, for a tokenizer with that patch size."""
    return {get_schedule(1.0, name).pixel_size(patch_size)[0]: name for name in PIXEL_CLASSES}
