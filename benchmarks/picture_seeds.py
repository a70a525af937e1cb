"""Small valid picture files of every readable format, and their mutation by a seed, for `fuzz_pictures.py`."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from varestorer_core.pictures import png16

CASES = Path(__file__).parents[1] / "tests" / "data" / "pictures"
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds() -> dict[str, bytes]:
    """Return small valid files of every format and of the tests' cases, by extension."""
    _register_plugins()
    files = {path.name: path.read_bytes() for path in sorted(CASES.iterdir())}
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (6, 8, 4), np.uint8)
    image = Image.fromarray(small).resize((48, 32), Image.Resampling.BICUBIC)
    for name, mode, options in (
        ("png", "RGBA", {"dpi": (300, 300)}),
        ("p.png", "P", {}),
        ("jpg", "RGB", {"quality": 90}),
        ("progressive.jpg", "RGB", {"progressive": True}),
        ("cmyk.jpg", "CMYK", {}),
        ("webp", "RGBA", {}),
        ("bmp", "RGB", {}),
        ("dib", "RGB", {}),
        ("j2k", "RGB", {}),
        ("heic", "RGB", {}),
        ("jxl", "RGB", {}),
        ("mpo", "RGB", {"save_all": True}),
        ("gif", "P", {}),
        ("ppm", "RGB", {}),
        ("tga", "RGBA", {"compression": "tga_rle"}),
        ("qoi", "RGB", {}),
        ("jp2", "RGB", {}),
        ("avif", "RGB", {}),
        ("ico", "RGBA", {}),
        ("pcx", "RGB", {}),
        ("sgi", "RGB", {}),
        ("lzw.tif", "RGB", {"compression": "tiff_lzw"}),
        ("raw.tif", "L", {}),
        ("g4.tif", "1", {"compression": "group4"}),
        ("jpeg.tif", "RGB", {"compression": "jpeg"}),
        ("lab.tif", "LAB", {}),
    ):
        file = io.BytesIO()
        source = image.convert("RGB") if mode in ("LAB", "P", "CMYK") else image
        lab = mode == "LAB"
        source = Image.merge("LAB", source.split()) if lab else source.convert(mode)
        kind = {
            "jpg": "JPEG",
            "tif": "TIFF",
            "jp2": "JPEG2000",
            "j2k": "JPEG2000",
            "heic": "HEIF",
        }.get(name.split(".")[-1])
        try:
            source.save(file, kind or name.split(".")[-1].upper(), **options)
        except (KeyError, OSError, ValueError):
            continue  # this Pillow was built without the format
        files[name] = file.getvalue()
    file = io.BytesIO()
    png16.encode(file, np.asarray(image).astype(np.uint16) * 257)
    files["16.png"] = file.getvalue()
    files["16.pgm"] = b"P5 48 32 65535\n" + generator.bytes(48 * 32 * 2)
    files["plain.ppm"] = b"P3 4 2 255\n" + b" 255 0 17" * 8
    files["pbm"] = b"P4 48 32\n" + generator.bytes(6 * 32)
    rgb = np.asarray(image.convert("RGB"))
    header = (
        b"8BPS" + bytes([0, 1]) + bytes(6) + bytes([0, 3, 0, 0, 0, 32, 0, 0, 0, 48, 0, 8, 0, 3])
    )
    files["psd"] = header + bytes(14) + rgb.transpose(2, 0, 1).tobytes()
    return files | dict(_tiff_seeds(rgb))


def _tiff_seeds(rgb: np.ndarray) -> Iterator[tuple[str, bytes]]:
    import tifffile

    deep = rgb.astype(np.uint16) * 257
    turned = [(274, "H", 1, 6, True)]
    for name, values, big, options in (
        ("planar", np.moveaxis(deep, 2, 0), False, {"planarconfig": "separate"}),
        ("tiled", rgb, False, {"tile": (16, 16), "compression": "deflate", "predictor": True}),
        ("big", rgb, True, {"extratags": turned}),
        ("float", (rgb / 255).astype(np.float32), False, {"compression": "deflate"}),
        ("strips", deep, False, {"rowsperstrip": 5, "compression": "lzw"}),
    ):
        file = io.BytesIO()
        with tifffile.TiffWriter(file, bigtiff=big) as writer:
            writer.write(values, photometric="rgb", metadata=None, **options)
        yield f"{name}.tif", file.getvalue()


def _register_plugins() -> None:
    for name in ("pillow_heif", "pillow_jxl"):
        try:
            plugin = import_module(name)
        except ImportError:
            continue
        if name == "pillow_heif":
            plugin.register_heif_opener()


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a file with one to four changes, half of them near its start, where the headers are."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        if len(data) < 16:
            break
        reach = min(len(data), 128) if generator.random() < 0.5 else len(data)
        place, kind = int(generator.integers(0, reach)), int(generator.integers(0, 26)) // 5
        if kind == 0:
            data[place] ^= 1 << int(generator.integers(0, 8))
        elif kind == 1:
            data[place] = int(generator.integers(0, 256))
        elif kind == 2:
            value = int(generator.choice(_EXTREMES))
            order = "little" if generator.random() < 0.5 else "big"
            data[place : place + 4] = value.to_bytes(4, order)
        elif kind == 3:
            del data[place : place + int(generator.integers(1, 64))]
        elif kind == 4:
            data[place:place] = data[: int(generator.integers(1, 64))]
        else:  # the rarest, because it leaves little to test
            del data[int(generator.integers(len(data) // 2, len(data))) :]
    fixed = generator.random() < 0.7 and data.startswith(b"\x89PNG")
    return _with_checksums(bytes(data)) if fixed else bytes(data)


def _with_checksums(png: bytes) -> bytes:
    """Return a PNG file with corrected checksums, so that damage is not found by them alone."""
    parts, place = [png[:8]], 8
    while place + 12 <= len(png):
        length, name = struct.unpack_from(">I4s", png, place)
        if place + 12 + length > len(png):
            break
        content = png[place + 8 : place + 8 + length]
        checksum = zlib.crc32(content, zlib.crc32(name))
        parts.append(struct.pack(">I4s", length, name) + content + struct.pack(">I", checksum))
        place += 12 + length
    return b"".join(parts) + png[place:]
