"""Mutated picture files of every readable format: each must become a picture or one clear sentence.

    python benchmarks/fuzz_pictures.py --files 20000 --seed 0

Counts outcomes and the worst time and memory of a file; prints one JSON document last and exits with 1 if a file ended
in anything else, took over ten seconds, or needed over four times its decoded size and 64 MB.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from varestorer_core.errors import ImageError
from varestorer_core.pictures import png16, read_picture

LONGEST = 10.0
"""Seconds that a file may take."""
SLACK = 64e6
"""Bytes that do not count: of libraries that load, and of freed memory that is kept."""
_ADDRESS_SPACE = 6 << 30
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds() -> dict[str, bytes]:
    """Return small valid files, by ending."""
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (6, 8, 4), np.uint8)
    image = Image.fromarray(small).resize((48, 32), Image.Resampling.BICUBIC)
    files = {}
    for name, mode, options in (
        ("png", "RGBA", {"dpi": (300, 300)}),
        ("p.png", "P", {}),
        ("jpg", "RGB", {"quality": 90}),
        ("progressive.jpg", "RGB", {"progressive": True}),
        ("cmyk.jpg", "CMYK", {}),
        ("webp", "RGBA", {}),
        ("bmp", "RGB", {}),
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
        kind = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(name.split(".")[-1])
        try:
            source.save(file, kind or name.split(".")[-1].upper(), **options)
        except (KeyError, OSError, ValueError):
            continue  # a format that this Pillow was built without
        files[name] = file.getvalue()
    file = io.BytesIO()
    png16.encode(file, np.asarray(image).astype(np.uint16) * 257)
    files["16.png"] = file.getvalue()
    files["16.pgm"] = b"P5 48 32 65535\n" + generator.bytes(48 * 32 * 2)
    return files


def mutated(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a file with one to four changes; half of them near its start, where the headers are."""
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
        else:  # the rarest: it leaves little to go wrong
            del data[int(generator.integers(len(data) // 2, len(data))) :]
    return bytes(data)


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    _limit_memory()
    result = campaign(args.files, args.seed)
    print(json.dumps(result, indent=2))
    return 1 if result["wrong"] else 0


def campaign(count: int, seed: int) -> dict[str, object]:
    """Read `count` mutated files; return what came of them."""
    signal.signal(signal.SIGALRM, _too_long)
    outcomes: Counter[str] = Counter()
    by_format: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    longest, largest = 0.0, 0.0
    sources = seeds()
    names = list(sources)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            name = names[number % len(names)]
            content = mutated(sources[name], np.random.default_rng([seed, number]))
            path = Path(folder) / f"a.{name}"
            path.write_bytes(content)
            outcome, seconds, excess = read_one(path)
            longest, largest = max(longest, seconds), max(largest, excess)
            outcomes[outcome.split(":")[0]] += 1
            by_format.setdefault(name, Counter())[outcome.split(":")[0]] += 1
            if outcome not in ("picture", "sentence", "no memory"):
                wrong.append(f"{name} {seed}/{number}: {outcome}")
    return {
        "files": count,
        "seed": seed,
        "outcomes": dict(outcomes),
        "formats": {name: dict(counts) for name, counts in by_format.items()},
        "longest_seconds": round(longest, 3),
        "largest_memory_over_decoded": round(largest, 2),
        "wrong": wrong[:50],
    }


def read_one(path: Path) -> tuple[str, float, float]:
    """Return what reading came to, its seconds, and its memory over the decoded size (beyond the slack)."""
    before = _reset_peak()
    started = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    decoded = 0
    try:
        picture = read_picture(path)
        decoded = picture.rgb.numel() * 4 + (
            0 if picture.alpha is None else picture.alpha.numel() * 4
        )
        outcome = "picture"
    except ImageError as error:
        text = str(error)
        outcome = (
            "sentence" if text.startswith(str(path)) and "\n" not in text else f"unclear: {text}"
        )
    except MemoryError:
        outcome = "no memory"
    except _HangError:
        outcome = "hang"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.perf_counter() - started
    excess = max(0.0, _peak() - before - SLACK) / decoded if decoded else 0.0
    if excess > 4:
        outcome = f"memory: {excess:.1f} times the decoded size"
    return outcome, seconds, excess


def _too_long(_signal: int, _frame: object) -> None:
    # BaseException's kin would end the run; read_picture must not turn it into a sentence.
    raise _HangError


class _HangError(BaseException):
    """A file took too long."""


def _limit_memory() -> None:
    import resource

    resource.setrlimit(
        resource.RLIMIT_AS, (_ADDRESS_SPACE, resource.getrlimit(resource.RLIMIT_AS)[1])
    )


def _reset_peak() -> float:
    """Start a new peak of resident memory; return what is resident, in bytes (Linux, else 0)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    sys.exit(main())
