"""Code points of the colours of HEIC and AVIF files, which are boxes of ISO/IEC 14496-12, by ISO/IEC 23008-12."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

_MOST_BYTES = 1 << 22
"""Most bytes of the `meta` box that are examined."""


class CodePoints(NamedTuple):
    """Code points of ITU-T H.273."""

    primaries: int
    transfer: int


def code_points(path: Path) -> CodePoints | None:
    """Return the code points of a file; None if it declares none, or several that differ."""
    meta = _meta(path)
    properties = _inside(_inside(meta[4:], b"iprp"), b"ipco")
    found = {
        CodePoints(*struct.unpack_from(">HH", content, 4))
        for name, content in _boxes(properties)
        if name == b"colr" and content[:4] == b"nclx" and len(content) >= 10
    }
    return found.pop() if len(found) == 1 else None


def _meta(path: Path) -> bytes:
    """Return the content of the outermost `meta` box; empty if there is none."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if length == 1:
                length = int.from_bytes(file.read(8), "big") - 8
            if length < 8:
                return b""
            if name == b"meta":
                return file.read(min(length - 8, _MOST_BYTES))
            file.seek(length - 8, 1)
    return b""


def _inside(content: bytes, wanted: bytes) -> bytes:
    """Return the content of the first box of a name; empty if there is none."""
    return next((inner for name, inner in _boxes(content) if name == wanted), b"")


def _boxes(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the names and contents of consecutive boxes."""
    found, place = [], 0
    while place + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, place)
        if length < 8:
            break
        found.append((name, content[place + 8 : place + length]))
        place += length
    return found
