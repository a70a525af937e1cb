"""Encoding of samples, profile and metadata as a picture file in memory."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

from . import png16
from .picture import Metadata

_OPTIONS: dict[str, dict[str, Any]] = {
    # Full colour resolution: the default halves it, which is visible in a restored picture.
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "TIFF": {"compression": "tiff_deflate"},
}
_JPEG_SEGMENT = 65_500
"""Bytes that one segment of a JPEG file holds, without its headers."""
_TIFF_POINTERS = frozenset({0x8769, 0x8825, 282, 283, 296})
"""Tags of inner directories, and of the resolution, which `dpi` carries."""
_XMP_KEYWORD = "XML:com.adobe.xmp"


def encoded(
    file_format: str,
    samples: NDArray,
    icc_profile: bytes | None,
    metadata: Metadata,
    quality: int | None = None,
) -> io.BytesIO:
    """Return samples (H, W, 1 to 4), uint8 or for PNG uint16, as a file; `quality` applies to JPEG and WebP.

    The file is encoded in memory first, because Pillow reports a full disk only as "encoder error".
    """
    file = io.BytesIO()
    if samples.dtype == np.uint16:
        png16.encode(file, samples, icc_profile, _png_chunks(metadata))
        return file
    options = {**_OPTIONS.get(file_format, {}), **_metadata_options(file_format, metadata)}
    if quality is not None and "quality" in options:
        options["quality"] = quality
    if icc_profile is not None:
        options["icc_profile"] = icc_profile
    samples = samples[..., 0] if samples.shape[2] == 1 else samples
    Image.fromarray(samples).save(file, format=file_format, **options)
    return file


def _metadata_options(file_format: str, metadata: Metadata) -> dict[str, Any]:
    """Return Pillow's options for the metadata that the format can hold."""
    options: dict[str, Any] = {}
    exif, xmp = _exif_with_resolution(file_format, metadata), metadata.xmp
    if metadata.dpi is not None:
        options["dpi"] = metadata.dpi
    if file_format == "JPEG":
        if exif is not None and len(exif) <= _JPEG_SEGMENT:
            options["exif"] = exif
        if xmp is not None and len(xmp) <= _JPEG_SEGMENT - 100:
            options["xmp"] = xmp
        if metadata.iptc is not None and len(metadata.iptc) <= _JPEG_SEGMENT - 100:
            options["extra"] = _photoshop_segment(metadata.iptc)
    elif file_format == "WEBP":
        options |= {"exif": exif} if exif is not None else {}
        options |= {"xmp": xmp} if xmp is not None else {}
    elif file_format == "PNG":
        options |= {"exif": exif} if exif is not None else {}
        if xmp is not None:
            text = PngImagePlugin.PngInfo()
            text.add_itxt(_XMP_KEYWORD, xmp.decode("utf-8", "replace"))
            options["pnginfo"] = text
    elif file_format == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        if exif is not None:
            # The outer directory only: Pillow writes no inner one into a compressed file.
            kept = Image.Exif()
            kept.load(exif)
            for tag, value in kept.items():
                if not isinstance(value, dict) and tag not in _TIFF_POINTERS:
                    tags[tag] = value
        for tag, content in ((700, xmp), (33723, metadata.iptc)):
            if content is not None:
                tags[tag] = content
                tags.tagtype[tag] = 7  # "undefined" bytes
        options["tiffinfo"] = tags
    return options


def _exif_with_resolution(file_format: str, metadata: Metadata) -> bytes | None:
    """Return the EXIF block with the resolution of the result, if the format can hold a resolution there only."""
    if metadata.dpi is None or file_format != "WEBP":
        return metadata.exif
    kept = Image.Exif()
    if metadata.exif is not None:
        kept.load(metadata.exif)
    kept[282], kept[283] = (IFDRational(round(value * 1000), 1000) for value in metadata.dpi)
    kept[296] = 2  # inches
    content = kept.tobytes()
    return content if content.startswith(b"Exif\0\0") else b"Exif\0\0" + content


def _png_chunks(metadata: Metadata) -> list[tuple[bytes, bytes]]:
    """Return the chunks to write before the pixels of a PNG file; see the PNG specification, section 11.3."""
    chunks = []
    if metadata.dpi is not None:
        per_metre = [round(value / 0.0254) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp is not None:
        chunks.append((b"iTXt", _XMP_KEYWORD.encode() + bytes(5) + metadata.xmp))
    return chunks


def _photoshop_segment(iptc: bytes) -> bytes:
    """Return an APP13 segment with one resource, padded to an even length."""
    resource = b"8BIM" + struct.pack(">H2xI", 0x0404, len(iptc)) + iptc + bytes(len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
