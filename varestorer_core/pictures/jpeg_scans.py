"""The scans of a JPEG file: how much of the picture a file that ends too early holds.

A scan holds, for some components, a range of the 64 frequency coefficients of each block, down to some bit. Files of
one scan hold the picture from top to bottom; progressive files hold it several times, each time finer. Markers after
ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither stuffed bytes nor restarts
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_MISSING = 16
"""Number of missing bits that stands for a coefficient of which nothing is known."""


@dataclass(frozen=True)
class Scan:
    """One scan."""

    components: tuple[int, ...]
    """Indices in the frame."""
    first: int
    last: int
    """Range of coefficients, 0 to 63."""
    bit: int
    """The lowest bit of the coefficients that is known after the scan."""


@dataclass(frozen=True)
class Frame:
    """Size and scans of a JPEG file."""

    height: int
    width: int
    num_components: int
    scans: tuple[Scan, ...]

    def missing_bits(self, num_scans: int) -> NDArray[np.int64]:
        """Return the number of lowest bits (components, 64) that are unknown after the first scans."""
        bits = np.full((self.num_components, 64), _MISSING)
        for scan in self.scans[:num_scans]:
            for component in scan.components:
                part = bits[component, scan.first : scan.last + 1]
                part[...] = np.minimum(part, scan.bit)
        return bits


def read_frame(content: bytes) -> Frame | None:
    """Return the frame of a JPEG file, complete or not; None if it ends before its first scan."""
    height = width = 0
    names: list[int] = []
    scans = []
    for kind, segment in _segments(content):
        if kind in _FRAMES and len(segment) >= 6:
            height, width, count = struct.unpack_from(">HHB", segment, 1)
            names = list(segment[6 : 6 + 3 * count : 3])
        elif kind == _SCAN and names:
            scan = _scan(segment, names)
            if scan is None:
                break
            scans.append(scan)
    return Frame(height, width, len(names), tuple(scans)) if scans else None


def frame_size(content: bytes) -> tuple[int, int]:
    """Return the height and width that the beginning of a JPEG file declares; 0 and 0 if it declares none."""
    for kind, segment in _segments(content):
        if kind in _FRAMES and len(segment) >= 6:
            return struct.unpack_from(">HH", segment, 1)
    return 0, 0


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the code and content of each complete marker segment, up to the end of the first picture."""
    place = 2
    while (match := _MARKER.search(content, place)) is not None:
        kind, place = content[match.start() + 1], match.end()
        if kind == _END:
            return
        if kind in (0x01, 0xD8):
            continue
        if place + 2 > len(content):
            return
        (length,) = struct.unpack_from(">H", content, place)
        segment, place = content[place + 2 : place + length], place + length
        if place > len(content):
            return
        yield kind, segment


def _scan(segment: bytes, names: list[int]) -> Scan | None:
    count = segment[0] if segment else 0
    if len(segment) < 4 + 2 * count:
        return None
    chosen = [name for name in segment[1 : 1 + 2 * count : 2] if name in names]
    first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
    return Scan(tuple(names.index(name) for name in chosen), first, min(last, 63), bits & 15)
