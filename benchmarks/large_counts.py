"""What grows with the number of pictures of a run, without networks: listing, the manifest, and writing into a folder.

    python benchmarks/large_counts.py                     # a minute or two, and 1 GB in the folder of temporary files

Prints seconds of listing a folder, bytes and seconds of reading a manifest, and milliseconds of writing a small file
into folders of several sizes. Manifests are read in a process each, for their memory. The last line is one JSON
document.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from varestorer_core.atomic import write_atomically
from varestorer_core.cli.jobs import plan_jobs
from varestorer_core.cli.manifest import Manifest, Record
from varestorer_core.settings import RestoreSettings

_WRITES = 50


def filled(folder: Path, number: int) -> Path:
    """Create empty files."""
    folder.mkdir()
    for index in range(number):
        (folder / f"picture{index:08d}.jpg").touch()
    return folder


def writing(folder: Path) -> float:
    """Return the median milliseconds of a write, after the first."""
    write_atomically(folder / "first.png", b"0")
    seconds = []
    for index in range(_WRITES):
        started = time.perf_counter()
        write_atomically(folder / f"result{index}.png", bytes(1000))
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds), 1)


def planning(folder: Path) -> float:
    """Return the processor seconds until the jobs of a folder are known, the imports done."""
    plan_jobs([str(folder)], str(folder / "out"))
    started = time.process_time()
    plan_jobs([str(folder)], str(folder / "out"))
    return round(time.process_time() - started, 2)


def write_manifest(path: Path, number: int) -> None:
    """Write a manifest with the settings and paths of usual length."""
    names = ("model", "cleaner", "text_encoder", "prompt", "tile", "quality", "vae")
    settings = {**asdict(RestoreSettings()), **dict.fromkeys(names), "adapters": []}
    settings |= {"device": "cuda", "dtype": "bf16", "neutral": False, "strip": False}
    settings |= {"version": "0.1.0", "model": "0" * 16}
    with path.open("w") as file:
        for index in range(number):
            name = f"/data/photos/{index // 24000:04d}/picture{index:08d}"
            record = Record(
                f"{name}.jpg", settings, f"{name}.png", f"{index:064x}", f"{index:064x}"
            )
            record.width, record.height, record.seconds = 2048, 1536, 1.234
            file.write(record.line() + "\n")


def appending(path: Path) -> float:
    """Return the median milliseconds of appending a record."""
    manifest, seconds = Manifest(path), []
    for _ in range(_WRITES):
        started = time.perf_counter()
        manifest.append(Record("a.jpg", {}, str(path), "0" * 64, "0" * 64))
        seconds.append(time.perf_counter() - started)
    return round(1000 * statistics.median(seconds), 1)


def read_manifest(path: Path) -> dict[str, float]:
    """Read a manifest in this process; return processor seconds and the peak of main memory in MB."""
    started = time.process_time()
    Manifest(path)
    seconds = round(time.process_time() - started, 2)
    return {"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folders", type=int, nargs="+", default=[1000, 20_000, 200_000])
    parser.add_argument("--listed", type=int, default=24_000)
    parser.add_argument("--lines", type=int, nargs="+", default=[24_000, 1_000_000])
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read is not None:
        print(json.dumps(read_manifest(args.read)))
        return
    report: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        report["listing"] = {
            "files": args.listed,
            "seconds": planning(filled(place / "listed", args.listed)),
        }
        print(report["listing"], flush=True)
        manifests = report["manifests"] = []
        for number in args.lines:
            path = place / f"{number}.jsonl"
            write_manifest(path, number)
            command = [sys.executable, __file__, "--read", str(path)]
            read = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            manifests.append({"lines": number, "bytes": path.stat().st_size, **read})
            print(manifests[-1], flush=True)
        report["append_ms"] = appending(place / "appended.jsonl")
        report["write_ms"] = {
            number: writing(filled(place / f"folder{number}", number)) for number in args.folders
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
