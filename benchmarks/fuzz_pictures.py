"""Mutated picture files of every readable format: each must become a picture or one clear sentence.

    python benchmarks/fuzz_pictures.py --files 20000 --seed 0
    python benchmarks/fuzz_pictures.py --first 5000 --files 10000   # the second quarter of the same files

Files are read in a separate process, which is restarted after a crash or a hang, so that the run continues. Counts
outcomes and the worst time and memory of a file; prints one JSON document last and exits with 1 if a file had any other
outcome, took over ten seconds, or needed over four times its decoded size plus 64 MB. The decoded size of a rejected
file is that in its header.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from picture_seeds import mutated, seeds
from PIL import Image

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture

LONGEST = 10.0
"""Seconds of processor time that a file may take; a process without output for six times as long also hangs."""
SLACK = 64e6
"""Bytes that are not counted: of libraries that are loaded, and of freed memory in the allocator."""
_ADDRESS_SPACE = 6 << 30
_GOOD = ("picture", "sentence")


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--files", type=int, default=20_000, help="number of the last file, and one"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", type=int, metavar="FIRST", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        _limit_memory()
        for line in outcomes(args.worker, args.files, args.seed):
            print(line, flush=True)
        return 0
    result = campaign(args.files, args.seed, args.first)
    print(json.dumps(result, indent=2))
    return 1 if result["wrong"] else 0


def campaign(count: int, seed: int, first: int = 0) -> dict[str, object]:
    """Read the mutated files `first` to `count` - 1 in separate processes and return the outcomes."""
    names = list(seeds())
    by_format: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    longest = largest = 0.0
    begun = time.perf_counter()
    start = first
    while first < count:
        for number, outcome, seconds, excess in _worker(first, count, seed):
            first = number + 1
            name = names[number % len(names)]
            by_format.setdefault(name, Counter())[outcome.split(":")[0]] += 1
            longest, largest = max(longest, seconds), max(largest, excess)
            if outcome not in _GOOD:
                wrong.append(f"{name} {seed}/{number}: {outcome}")
                print(wrong[-1], file=sys.stderr)
            if first % 1000 == 0:
                print(f"{first} files, {len(wrong)} wrong", file=sys.stderr)
    return {
        "files": count - start,
        "first": start,
        "seed": seed,
        "seconds": round(time.perf_counter() - begun, 1),
        "outcomes": dict(sum(by_format.values(), Counter())),
        "formats": {name: dict(counts) for name, counts in by_format.items()},
        "longest_seconds": round(longest, 3),
        "largest_memory_over_decoded": round(largest, 2),
        "wrong": wrong[:50],
    }


def _worker(first: int, count: int, seed: int) -> Iterator[tuple[int, str, float, float]]:
    """Yield (number, outcome, seconds, memory) for a process's files until it ends; at least one."""
    arguments = ["--files", str(count), "--seed", str(seed), "--worker", str(first)]
    # The output of decoders in C is irrelevant, and that of Python would be a traceback.
    command = [sys.executable, __file__, *arguments]
    # Its modules are found where they were found here, however this process was told where to look.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        assert child.stdout is not None
        number, buffer, open_file = first, b"", first
        while True:
            ready, _, _ = select.select([child.stdout], [], [], 6 * LONGEST)
            part = child.stdout.read1(65536) if ready else b""
            if not part:
                break
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                number, outcome, seconds, excess = json.loads(line)
                open_file = number + 1
                yield number, outcome, seconds, excess
        if ready:
            child.wait()
        else:
            child.kill()
        if open_file < count:
            how = f"crash: status {child.returncode}" if ready else "hang: nothing ended it"
            yield open_file, how, 0.0, 0.0


def outcomes(first: int, count: int, seed: int) -> Iterator[str]:
    """Yield a JSON line [number, outcome, seconds, memory over the decoded size] for each file."""
    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, _too_long)
    sources = seeds()
    names = list(sources)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, count):
            name = names[number % len(names)]
            content = mutated(sources[name], np.random.default_rng([seed, number]))
            path = Path(folder) / f"a.{name}"
            path.write_bytes(content)
            yield json.dumps([number, *read_one(path)])


def read_one(path: Path) -> tuple[str, float, float]:
    """Return the outcome of reading, its seconds, and its memory (beyond the slack) over the decoded size."""
    before = _reset_peak()
    started = time.process_time()
    _alarm(LONGEST)
    decoded = 0
    try:
        picture = read_picture(path)
        outcome = "picture"
        decoded = 4 * sum(
            0 if part is None else part.numel() for part in (picture.rgb, picture.alpha)
        )
    except ImageError as error:
        text = str(error)
        clear = text.startswith(str(path)) and text.isprintable()
        outcome = "sentence" if clear else f"unclear: {text!r}"
    except _HangError:
        outcome = "hang"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    finally:
        _alarm(0)
    seconds = time.process_time() - started
    over = max(0.0, _peak() - before - SLACK)
    decoded = decoded or (_told_size(path) if over else 1)
    excess = over / decoded
    if excess > 4:
        outcome = f"memory: {excess:.1f} times the decoded size"
    return outcome, round(seconds, 3), round(excess, 2)


def _told_size(path: Path) -> int:
    """Return the bytes of the picture, as float32 RGB, with the size in a file's header; at least 1."""
    import tifffile

    Image.MAX_IMAGE_PIXELS = None
    pixels = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                pixels = image.width * image.height
        except Exception as error:  # the header is damaged as well
            _ = error
        try:
            with tifffile.TiffFile(path) as file:
                pixels = max(pixels, file.pages[0].imagewidth * file.pages[0].imagelength)
        except Exception as error:
            _ = error
    return max(1, 12 * pixels)


def _alarm(seconds: float) -> None:
    if hasattr(signal, "SIGPROF"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _too_long(_signal: int, _frame: object) -> None:
    # A BaseException, so that read_picture does not turn it into a sentence.
    raise _HangError


class _HangError(BaseException):
    """A file took too long."""


def _limit_memory() -> None:
    import resource

    resource.setrlimit(
        resource.RLIMIT_AS, (_ADDRESS_SPACE, resource.getrlimit(resource.RLIMIT_AS)[1])
    )


def _reset_peak() -> float:
    """Reset the peak of resident memory; return the current value in bytes (Linux, else 0)."""
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
