"""Tables of the token grids of next-scale prediction, by height/width ratio (Infinity, section 3)."""

from __future__ import annotations

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
# Ratios below 1 are named by the inverse truncated to three decimals, as in the official tables.
_INVERSE = {1.25: 0.8, 1.333: 0.75, 1.5: 0.666, 1.75: 0.571, 2.0: 0.5, 2.5: 0.4, 3.0: 0.333}


def _all_ratios() -> dict[float, tuple[tuple[int, int], ...]]:
    table: dict[float, tuple[tuple[int, int], ...]] = {}
    for ratio, grids in _TALL.items():
        table[ratio] = grids
        if ratio in _INVERSE:
            table[_INVERSE[ratio]] = tuple((w, h) for h, w in grids)
    return table


GRIDS = _all_ratios()
"""The 13 grids (h, w) of each height/width ratio, coarse to fine."""
