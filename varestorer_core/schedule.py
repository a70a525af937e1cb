"""Scale schedules: the token grids of next-scale prediction, coarse to fine (Infinity, section 3).

A schedule is a prefix of a list of 13 grids. The list depends on the picture's height/width ratio,
the prefix on the pixel class ("0.25M" means about a quarter of a million pixels at 16 pixels a token).
Rotary coordinates always refer to the 13th grid, whatever the prefix, so a schedule keeps the full list.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

PIXEL_CLASSES: dict[str, int] = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}
"""Pixel class to number of scales."""

# Grids (h, w) of the ratios h/w >= 1. Those below 1 are the same with h and w swapped.
_TALL: dict[float, tuple[tuple[int, int], ...]] = {
    1.0: tuple((n, n) for n in (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)),
    1.25: ((1, 1), (2, 2), (3, 3), *((5 * n, 4 * n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 11, 14))),
    1.333: ((1, 1), (2, 2), *((4 * n, 3 * n) for n in (1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 18))),
    1.5: ((1, 1), (2, 2), *((3 * n, 2 * n) for n in (1, 2, 3, 5, 7, 9, 11, 13, 16, 21, 26))),
    1.75: (
        *((1, 1), (2, 2), (3, 3), (7, 4), (11, 6), (14, 8), (21, 12)),
        *((28, 16), (35, 20), (42, 24), (56, 32), (70, 40), (84, 48)),
    ),
    2.0: ((1, 1), (2, 2), *((2 * n, n) for n in (2, 3, 5, 8, 11, 15, 19, 23, 30, 37, 45))),
    2.5: ((1, 1), (2, 2), *((5 * n, 2 * n) for n in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20))),
    3.0: ((1, 1), (2, 2), (6, 2), *((3 * n, n) for n in (3, 5, 7, 9, 12, 15, 18, 24, 30, 37))),
}
# Ratios below 1 are named by the inverse cut to three decimals, as in the official tables.
_INVERSE = {1.25: 0.8, 1.333: 0.75, 1.5: 0.666, 1.75: 0.571, 2.0: 0.5, 2.5: 0.4, 3.0: 0.333}


def _all_ratios() -> dict[float, tuple[tuple[int, int], ...]]:
    table: dict[float, tuple[tuple[int, int], ...]] = {}
    for ratio, grids in _TALL.items():
        table[ratio] = grids
        if ratio in _INVERSE:
            table[_INVERSE[ratio]] = tuple((w, h) for h, w in grids)
    return table


_GRIDS = _all_ratios()
RATIOS: tuple[float, ...] = tuple(_GRIDS)
"""Height/width ratios that have a schedule, in the order in which ties of `nearest_ratio` resolve."""


@dataclass(frozen=True)
class ScaleSchedule:
    """Token grids of one picture, coarse to fine. Hashable, so it can key caches."""

    ratio: float
    pixel_class: str
    grids: tuple[tuple[int, int], ...]
    """(h, w) of each of the K scales in use."""
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
        """L: tokens of all scales, which is the number of positions with logits."""
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
    if ratio not in _GRIDS:
        raise ValueError(
            f"ratio must be one of {', '.join(map(str, RATIOS))}, got {ratio}. Use nearest_ratio(height, width)."
        )
    if pixel_class not in PIXEL_CLASSES:
        raise ValueError(
            f"pixel_class must be one of {', '.join(PIXEL_CLASSES)}, got {pixel_class!r}."
        )
    grids = _GRIDS[ratio]
    return ScaleSchedule(ratio, pixel_class, grids[: PIXEL_CLASSES[pixel_class]], grids)


def nearest_ratio(height: int, width: int) -> float:
    """Return the tabulated ratio that is nearest to height / width; the earlier one in a tie."""
    return min(RATIOS, key=lambda ratio: abs(height / width - ratio))
