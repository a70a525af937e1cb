"""Many small pictures on a local Ray: throughput of one and of two workers, killed actors, and a killed command.

    python benchmarks/cluster.py --pictures 1000 --kills 10

One worker and two restore the same folder with the bundled model; then two do so while actors are killed at random
moments and the command itself is killed once, and the run is continued. Each result must be there, equal to that of a
run without Ray, and recorded once. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from continued import COMMAND, MANIFEST, fill, restore_arguments, results

ACTOR = "ray::MapWorker"


def actors(pid: int) -> list[psutil.Process]:
    """Return the actors among the descendants of a process that hold the models by now."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for process in below:
        try:
            if any(ACTOR in part for part in process.cmdline()) and "PictureActor" in "".join(
                process.cmdline()
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def memory(pid: int) -> int:
    """Return the resident bytes of a process and its descendants."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


class Run:
    """A restore command in a process of its own, watched."""

    def __init__(self, source: Path, target: Path, *options: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self.child = subprocess.Popen(
            [*COMMAND, *restore_arguments(source, target), *options],
            stdout=self.log,
            stderr=self.log,
            env=environment,
        )
        self.memory: list[int] = []

    def kill_actors(self, count: int, chance: random.Random, spread: float) -> int:
        """Kill so many actors at random moments; return how many there were to kill."""
        killed = 0
        while killed < count and self.child.poll() is None:
            time.sleep(chance.uniform(0.2, spread))
            if found := actors(self.child.pid):
                chance.choice(found).kill()
                killed += 1
        return killed

    def wait(self) -> str:
        """Wait for the end; return what was printed."""
        while self.child.poll() is None:
            self.memory.append(memory(self.child.pid))
            time.sleep(0.5)
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


def recorded(folder: Path) -> Counter[str]:
    """Return how often each picture is recorded as done."""
    lines = (folder / MANIFEST).read_text().splitlines()
    records = [json.loads(line) for line in lines if line]
    return Counter(record["input"] for record in records if record["error"] is None)


def rate(source: Path, target: Path, workers: int) -> dict[str, object]:
    """Return the pictures a second of so many workers, from the first result on."""
    run = Run(source, target, "--cluster", "auto", "--workers", str(workers))
    printed = run.wait()
    times = sorted(path.stat().st_mtime for path in target.rglob("*.png"))
    if len(times) < 2:
        raise SystemExit(printed)
    half = len(run.memory) // 2
    return {
        "workers": workers,
        "pictures": len(times),
        "pictures_a_second": round((len(times) - 1) / (times[-1] - times[0]), 2),
        "memory_gb_half_way_and_at_the_end": [
            round(max(part, default=0) / 1e9, 2) for part in (run.memory[:half], run.memory[half:])
        ],
        "last_line": printed.splitlines()[-1],
    }


def campaign(pictures: int, kills: int, seed: int) -> dict[str, object]:
    """Return what all runs came to."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        source, plain, one, two, torn = (
            Path(place, n) for n in ("in", "plain", "one", "two", "torn")
        )
        fill(source, pictures, seed)
        Run(source, plain).wait()
        wanted = results(plain)
        rates = [rate(source, folder, n) for folder, n in ((one, 1), (two, 2))]
        options = ("--cluster", "auto", "--workers", "2")
        run = Run(source, torn, *options)
        killed = run.kill_actors(kills // 2, chance, 4.0)
        run.child.kill()
        run.wait()
        before = recorded(torn)
        run = Run(source, torn, *options)
        watcher = threading.Thread(target=run.wait)
        watcher.start()
        killed += run.kill_actors(kills - kills // 2, chance, 4.0)
        watcher.join()
        after = recorded(torn)
        return {
            "pictures": pictures,
            "rates": rates,
            "two_over_one": round(rates[1]["pictures_a_second"] / rates[0]["pictures_a_second"], 2),
            "killed_actors": killed,
            "recorded_when_the_command_was_killed": len(before),
            "equal_to_a_run_without_ray": [
                results(folder) == wanted for folder in (one, two, torn)
            ],
            "results": len(wanted),
            "recorded": len(after),
            "recorded_more_than_once": sum(count > 1 for count in after.values()),
        }


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = campaign(args.pictures, args.kills, args.seed)
    print(json.dumps(found))
    whole = all(found["equal_to_a_run_without_ray"]) and found["recorded"] == found["results"]
    return 0 if whole and not found["recorded_more_than_once"] else 1


if __name__ == "__main__":
    sys.exit(main())
