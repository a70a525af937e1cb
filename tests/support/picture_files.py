"""Picture files made by hand: random samples, PNG chunk by chunk, profiles."""

import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageCms


def samples(height, width, channels, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
    if mode is not None:
        image = image.convert(mode)
    image.save(path, **options)
    return path


def chunk(name, content):
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_bytes(width, height, bits, color_type, rows=b"", extra=b"", interlace=0):
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, interlace)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def deep_png(array, color_type, extra=b""):
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return png_bytes(width, height, 16, color_type, rows, extra)


def srgb_profile(space="sRGB"):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()


def grey_profile(gamma):
    """Build a minimal ICC v2 grey profile with a pure power curve."""

    def tag(name, content):
        return name, content + b"\0" * (-len(content) % 4)

    tags = [
        tag(b"desc", b"desc" + b"\0" * 4 + struct.pack(">I", 5) + b"grey\0" + b"\0" * 78),
        tag(b"cprt", b"text" + b"\0" * 4 + b"none\0"),
        tag(b"wtpt", b"XYZ " + b"\0" * 4 + struct.pack(">iii", 63190, 65536, 54061)),
        tag(b"kTRC", b"curv" + b"\0" * 4 + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"),
    ]
    offset, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags:
        table += name + struct.pack(">II", offset + len(data), len(content))
        data += content
    size = 128 + len(table) + len(data)
    header = struct.pack(">I", size) + b"\0" * 4 + b"\x02\x10\0\0" + b"mntr" + b"GRAY" + b"XYZ "
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def expected(array):
    return torch.from_numpy(array.transpose(2, 0, 1).copy())
