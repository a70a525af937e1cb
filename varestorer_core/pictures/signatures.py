"""The format of a picture file by its first bytes, whatever its name."""

from __future__ import annotations

COUNT = 16
"""Number of first bytes that `format_of` needs."""
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"II\x1a\0\0\0HEAPCCDR": "Canon CRW",
    b"II\xbc\x01": "JPEG XR",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "Photoshop",
    b"qoif": "QOI",
    b"FUJIFILMCCD-RAW": "Fujifilm RAF",
    b"v/1\x01": "OpenEXR",
}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "Canon CR3",
}


def format_of(start: bytes) -> str | None:
    """Return the name of the format of a file with these first bytes; None if they are of no picture."""
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12])
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[:2] == b"BM" and len(start) >= 10 and start[6:10] == bytes(4):
        return "BMP"
    return next((name for first, name in _STARTS.items() if start.startswith(first)), None)
