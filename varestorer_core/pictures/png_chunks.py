"""The chunks of a PNG file, where Pillow does not expose them or rejects a file with intact pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST = 1 << 16
"""Most bytes of a chunk that `header_chunks` keeps, and of pixels that are decompressed at a time."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel, by colour type."""


def header_chunks(path: Path) -> dict[bytes, bytes]:
    """Return the content of the small, undamaged chunks before the pixels; empty for other formats."""
    chunks: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE:
            return chunks
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND") or length > 1 << 31:
                break
            if length > _LONGEST:
                file.seek(length + 4, 1)
                continue
            content = file.read(length)
            if file.read(4) == struct.pack(">I", zlib.crc32(name + content)):
                chunks.setdefault(name, content)
    return chunks


def lacks_rows(path: Path) -> bool:
    """Return whether the pixels of a PNG file without interlacing end before its last row.

    Pillow silently leaves such rows black or transparent. This decompresses everything once more.
    """
    stream, found, expected = zlib.decompressobj(), 0, 0
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            content = file.read(length)
            file.seek(4, 1)  # checksum
            if name == b"IHDR":
                width, height, bits, color, *_, interlaced = struct.unpack(">IIBBBBB", content)
                if interlaced:
                    return False
                expected = height * (1 + -(-width * bits * _CHANNELS.get(color, 1) // 8))
            elif name == b"IDAT" and not stream.eof:
                found += _decompressed(stream, content)
            elif name == b"IEND":
                break
    return found < expected


def _decompressed(stream: Any, content: bytes) -> int:
    """Return how many bytes a part of a compressed stream decompresses to, one piece at a time."""
    found = len(stream.decompress(content, _LONGEST))
    while stream.unconsumed_tail and not stream.eof:  # what follows the stream is left over
        found += len(stream.decompress(stream.unconsumed_tail, _LONGEST))
    return found


def integers(content: bytes, count: int) -> tuple[int, ...]:
    """Return the first `count` big-endian integers of a chunk.

    Raises:
        ValueError: if there are fewer.
    """
    if len(content) < 4 * count:
        raise ValueError(f"expected {count} integers, got {len(content)} bytes")
    return struct.unpack_from(f">{count}I", content)
