"""ICC profiles of plain RGB colour spaces, built from primaries, white and transfer curve.

Files that declare their colours in other ways get an equivalent profile, which keeps the meaning in every format that
holds one.
Layout and types after ICC.1:2022 (version 4).
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
D65: Point = (0.3127, 0.3290)
SRGB_PRIMARIES: tuple[Point, Point, Point] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_PRIMARIES: tuple[Point, Point, Point] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3_PRIMARIES: tuple[Point, Point, Point] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020_PRIMARIES: tuple[Point, Point, Point] = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE_GAMMA = 563 / 256
"""Exponent of Adobe RGB (1998), section 4.3.1.2."""

_D50 = np.array([0.9642, 1.0, 0.8249])  # ICC.1:2022, 7.2.16
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def rgb_profile(
    name: str,
    primaries: tuple[Point, Point, Point],
    white: Point = D65,
    gamma: float | None = None,
) -> bytes:
    """Return a profile of an RGB space.

    Args:
        name: description that programs show, ASCII.
        primaries: (x, y) of red, green and blue.
        white: (x, y).
        gamma: exponent of the transfer curve, from samples to linear light; None means the curve of sRGB.

    Raises:
        ValueError: for primaries that span no colour space.
    """
    adaptation = _to_d50(white)
    colorants = adaptation @ _colorants(primaries, white)
    if not np.isfinite(colorants).all() or np.abs(colorants).max() > 4:
        raise ValueError("the primaries span no colour space")
    curve = _curve(gamma)
    entries = [
        (b"desc", _text(name)),
        (b"cprt", _text("CC0")),
        (b"wtpt", b"XYZ " + bytes(4) + _fixed(_D50)),
        (b"chad", b"sf32" + bytes(4) + _fixed(adaptation.ravel())),
        *[(key, b"XYZ " + bytes(4) + _fixed(colorants[:, i])) for i, key in enumerate(_XYZ)],
        *[(key, curve) for key in (b"rTRC", b"gTRC", b"bTRC")],
    ]
    table, data = struct.pack(">I", len(entries)), b""
    start = 128 + 4 + 12 * len(entries)
    for key, content in entries:
        table += key + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI", start + len(data), 0x04300000) + b"mntrRGB XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + table + data


_XYZ = (b"rXYZ", b"gXYZ", b"bXYZ")


def _xyz(point: Point) -> NDArray[np.float64]:
    x, y = point
    if not y > 0:
        raise ValueError("a chromaticity has no luminance")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _colorants(primaries: tuple[Point, Point, Point], white: Point) -> NDArray[np.float64]:
    """Return the matrix from linear RGB to XYZ."""
    columns = np.stack([_xyz(point) for point in primaries], axis=1)
    try:
        return columns * np.linalg.solve(columns, _xyz(white))
    except np.linalg.LinAlgError as error:
        raise ValueError("the primaries span no colour space") from error


def _to_d50(white: Point) -> NDArray[np.float64]:
    """Return the Bradford adaptation from a white to D50."""
    ratio = (_BRADFORD @ _D50) / (_BRADFORD @ _xyz(white))
    return np.linalg.inv(_BRADFORD) @ np.diag(ratio) @ _BRADFORD


def _curve(gamma: float | None) -> bytes:
    if gamma is None:  # parametric type 3: IEC 61966-2-1
        values = np.array([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])
        return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(values)
    return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed(np.array([gamma]))


def _text(text: str) -> bytes:
    content = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(content), 28) + content


def _fixed(values: NDArray[np.float64]) -> bytes:
    """Return values as s15Fixed16."""
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
