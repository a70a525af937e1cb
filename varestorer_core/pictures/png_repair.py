"""PNG files with sound pixels whose other chunks are damaged, or larger than Pillow reads.

Pillow rejects the whole file for them. What is needed to show the picture is kept; other damaged chunks are left out.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from .png_chunks import SIGNATURE

_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_LONGEST_TEXT = 1 << 20
"""Most bytes of a text chunk, compressed or not, that Pillow reads; of all of them, 64 times as many."""
_LONGEST_PROFILE = 1 << 24
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})


@dataclass(frozen=True)
class Repair:
    """What was done to a file."""

    content: bytes | None = None
    """The file without what cannot be read; None if nothing had to be done."""
    icc_profile: bytes | None = None
    """A profile that is larger than Pillow reads."""
    notes: tuple[str, ...] = ()


def repaired(path: Path) -> Repair:
    """Return how to read a PNG file; nothing is done to files of other formats."""
    unread: list[tuple[int, int]] = []
    damaged: set[str] = set()
    profile, text = None, 0
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE:
            return Repair()
        while len(head := file.read(8)) == 8:
            start = file.tell() - 8
            length, name = struct.unpack(">I4s", head)
            if length > 1 << 31:
                break
            if not _is_ancillary(name) or name in _ANIMATION:
                file.seek(length + 4, 1)
                if name == b"IEND":
                    break
                continue
            content, checksum = file.read(length), file.read(4)
            if len(content) < length:
                break
            size = _decompressed_size(name, content)
            text += size if name in _TEXT else 0
            if struct.pack(">I", zlib.crc32(name + content)) != checksum:
                damaged.add(name.decode("ascii", "replace"))
            elif name == b"iCCP" and size > _LONGEST_TEXT:
                profile = profile or _profile(content)
            elif name not in _TEXT or (size <= _LONGEST_TEXT and text <= 32 * _LONGEST_TEXT):
                continue
            unread.append((start, start + 12 + length))
    if not unread:
        return Repair()
    notes = []
    if damaged:
        notes.append(
            f"has damaged data beside its pixels ({', '.join(sorted(damaged))}), which were ignored"
        )
    return Repair(_without(path.read_bytes(), unread), profile, tuple(notes))


def _is_ancillary(name: bytes) -> bool:
    """Return whether a picture can be shown without a chunk: its first letter is small."""
    return bool(name[0] & 32) and name.isalpha()


def _decompressed_size(name: bytes, content: bytes) -> int:
    """Return the size of a text or profile, up to a little more than the largest one that is read."""
    start = {b"zTXt": content.find(b"\0") + 2, b"iCCP": content.find(b"\0") + 2}.get(name)
    if name == b"iTXt":
        keyword = content.find(b"\0")
        if content[keyword + 1 : keyword + 2] == b"\1":
            language = content.find(b"\0", keyword + 3)
            start = content.find(b"\0", language + 1) + 1
    if start is None:
        return len(content)
    try:
        return len(zlib.decompressobj().decompress(content[start:], _LONGEST_TEXT + 1))
    except zlib.error:
        return len(content)


def _profile(content: bytes) -> bytes | None:
    start = content.find(b"\0") + 2
    try:
        unpacked = zlib.decompressobj().decompress(content[start:], _LONGEST_PROFILE)
    except zlib.error:
        return None
    return unpacked if len(unpacked) < _LONGEST_PROFILE else None


def _without(content: bytes, places: list[tuple[int, int]]) -> bytes:
    parts, last = [], 0
    for start, end in places:
        parts.append(content[last:start])
        last = end
    return b"".join([*parts, content[last:]])
