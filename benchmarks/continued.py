"""Runs over a folder of mixed small files, killed at random moments and continued, compared with an undisturbed run.

    python benchmarks/continued.py --pictures 1000 --kills 10

    python benchmarks/continued.py --enlarge-only      # the same without networks, in a minute

Both use `restore --recursive --skip-existing` with the bundled model. After every kill, a picture with a record and a
result of the recorded content is finished: its file must not be written again. The last line is one JSON document; the
exit code is 1 if results differ, are missing, or were computed twice.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

COMMAND = [sys.executable, "-m", "varestorer_core.cli"]
_CODE = """
import os, signal, sys
from varestorer_core.cli import restore
from varestorer_core.cli.main import main
from varestorer_core.resize import resize_lanczos, target_size
from varestorer_core.cli import batch

class StandIn:
    def restore(self, rgb, settings, **_):
        return resize_lanczos(rgb, target_size(*rgb.shape[-2:], settings.upscale))

restore.load_models = lambda *_, **__: StandIn()
left = int(sys.argv[1])
if left:
    append = batch.Manifest.append
    def counted(self, record):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, record)
    batch.Manifest.append = counted
sys.exit(main(sys.argv[2:]))
"""
ENLARGE_ONLY = [sys.executable, "-c", _CODE, "0"]
"""The command with a resize instead of the networks; it kills itself after the given number of records, 0 for never."""
MANIFEST = ".varestorer-manifest.jsonl"
_KINDS = (
    ("png", "RGB", "PNG"), ("jpg", "RGB", "JPEG"), ("grey.png", "L", "PNG"), ("a.png", "RGBA", "PNG"),
    ("tif", "RGB", "TIFF"), ("webp", "RGB", "WEBP"), ("gif", "P", "GIF"), ("bmp", "RGB", "BMP"),
)  # fmt: skip


def fill(folder: Path, count: int, seed: int) -> None:
    """Write `count` small pictures of mixed kinds, one in fifty of them damaged, in ten subfolders."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        ending, mode, kind = _KINDS[number % len(_KINDS)]
        height, width = generator.integers(6, 24, 2)
        values = generator.integers(0, 256, (height, width, 4), np.uint8)
        file = io.BytesIO()
        Image.fromarray(values).convert("RGBA" if mode == "RGBA" else "RGB").convert(mode).save(
            file, kind
        )
        content = file.getvalue()
        if number % 50 == 49:
            content = content[: len(content) // 3]
        place = folder / f"part{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"picture{number:05d}.{ending}").write_bytes(content)


def results(folder: Path) -> dict[str, str]:
    """Return the hash of every result, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def finished(folder: Path) -> dict[str, int]:
    """Return when each finished result was written: those with a record of the same content."""
    found = {}
    manifest = folder / MANIFEST
    for line in manifest.read_bytes().splitlines() if manifest.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:  # incomplete because of a kill
            continue
        path = Path(record["result"])
        if record["error"] is not None or not path.exists():
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == record["result_hash"]:
            found[str(path)] = path.stat().st_mtime_ns
    return found


def restore_arguments(source: Path, target: Path) -> list[str]:
    """Return the command that restores a folder, or continues it."""
    options = ["--recursive", "--skip-existing", "--upscale", "1"]
    return ["restore", str(source), "-o", str(target), *options]


def run(
    source: Path, target: Path, command: list[str], kill_at: int | None = None, delay: float = 0.0
) -> tuple[int | None, str]:
    """Run the command; return its exit code (None if it was killed) and its last line.

    Args:
        kill_at: number of results in the target after which it is killed.
        delay: seconds between that result and the kill.
    """
    arguments = [*command, *restore_arguments(source, target)]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(arguments, stdout=log, stderr=subprocess.DEVNULL)
        while child.poll() is None:
            if kill_at is not None and sum(1 for _ in target.rglob("*.png")) >= kill_at:
                time.sleep(delay)
                child.kill()
            time.sleep(0.02)
        code = child.returncode
        if code == -signal.SIGKILL:
            return None, ""
        log.seek(0)
        lines = log.read().decode().splitlines()
        return code, lines[-1] if lines else ""


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--enlarge-only", action="store_true", help="a resize instead of the networks"
    )
    args = parser.parse_args()
    command = ENLARGE_ONLY if args.enlarge_only else COMMAND
    result = campaign(args.pictures, args.kills, args.seed, command)
    print(json.dumps(result))
    return 0 if result["same_as_one_run"] and not result["done_twice"] else 1


def campaign(pictures: int, kills: int, seed: int, command: list[str]) -> dict[str, object]:
    """Return the outcome of an undisturbed and a disturbed run."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        source, whole, torn = (Path(place, name) for name in ("in", "whole", "torn"))
        fill(source, pictures, seed)
        begun = time.perf_counter()
        code, last = run(source, whole, command)
        seconds = time.perf_counter() - begun
        twice, killed, kept = 0, 0, []
        before: dict[str, int] = {}
        # Counted in results, since a shared machine is not always as fast.
        for done in sorted(chance.sample(range(1, len(results(whole))), kills)):
            ended, _ = run(source, torn, command, done, chance.uniform(0, seconds / pictures))
            now = finished(torn)
            twice += sum(now.get(path) != written for path, written in before.items())
            before = now
            if ended is not None:
                break
            killed += 1
            kept.append(len(now))
        torn_code, torn_last = run(source, torn, command)
        now = finished(torn)
        twice += sum(now.get(path) != written for path, written in before.items())
        return {
            "pictures": pictures,
            "kills": killed,
            "finished_after_each_kill": kept,
            "seconds_of_one_run": round(seconds, 1),
            "exit_codes": [code, torn_code],
            "last_lines": [last, torn_last],
            "results": len(results(whole)),
            "same_as_one_run": results(whole) == results(torn),
            "done_twice": twice,
            "left_over": len([p for p in torn.rglob(".*") if p.suffix in (".tmp", ".part")]),
        }


if __name__ == "__main__":
    sys.exit(main())
