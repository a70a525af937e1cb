"""Tone curves of ICC profiles: what grey means in a profile, without the 8 bits of littlecms in Pillow.

Tags and types after ICC.1:2022: `curv` in 10.6, `para` in 10.18.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ..color_space import linear_to_srgb

Curve = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_MOST_TAGS = 200
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}
"""Number of parameters of a parametric curve, by its type."""


def neutral_curve(profile: bytes) -> Curve | None:
    """Return the curve from grey samples in [0, 1] to linear light; None if the profile has no single one.

    A grey profile has one curve. An RGB profile of three equal curves has one for neutral colours, unless it converts
    by tables instead.
    """
    try:
        tags = _tags(profile)
        if b"A2B0" in tags or b"A2B1" in tags:
            return None
        found = [tags[name] for name in (b"kTRC", b"rTRC", b"gTRC", b"bTRC") if name in tags]
        if len(found) not in (1, 3) or len(set(found)) != 1:
            return None
        return _curve(found[0])
    except (ArithmeticError, LookupError, ValueError, struct.error):
        return None


def srgb_curve(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sRGB values of linear light in [0, 1]; see IEC 61966-2-1."""
    return linear_to_srgb(torch.tensor(light, dtype=torch.float32)).numpy()


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {}
    for index in range(min(count, _MOST_TAGS)):
        name, start, length = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        tags[name] = profile[start : start + length]
    return tags


def _curve(tag: bytes) -> Curve | None:
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return lambda values: values
        points = np.array(struct.unpack_from(f">{count}H", tag, 12))
        if count == 1:
            return _power(points[0] / 256)
        places = np.linspace(0, 1, count)
        return lambda values: np.interp(values, places, points / 65535).astype(np.float32)
    if tag[:4] != b"para":
        return None
    (kind,) = struct.unpack_from(">H", tag, 8)
    numbers = struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)
    gamma, *rest = (number / 65536 for number in numbers)
    if kind == 0:
        return _power(gamma)
    a, b = rest[:2]
    if kind in (1, 2):
        offset = rest[2] if kind == 2 else 0.0
        return _in_two(gamma, a, b, 0.0, -b / a, offset, offset)
    slope, start = rest[2:4]
    more = rest[4:6] if kind == 4 else (0.0, 0.0)
    return _in_two(gamma, a, b, slope, start, more[0], more[1])


def _power(gamma: float) -> Curve:
    return lambda values: (values ** np.float32(gamma)).astype(np.float32)


def _in_two(
    gamma: float, a: float, b: float, slope: float, start: float, above: float, below: float
) -> Curve:
    """Return (a x + b) ^ gamma + above from `start` on, and slope x + below before it."""

    def curve(values: NDArray[np.float32]) -> NDArray[np.float32]:
        power = np.maximum(a * values + b, 0) ** gamma + above
        return np.where(values >= start, power, slope * values + below).astype(np.float32)

    return curve
