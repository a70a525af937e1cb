"""Many small pictures on a local Ray cluster: throughput of one and two workers, killed actors, and a killed command.

    python benchmarks/cluster.py --pictures 1000 --kills 10
    python benchmarks/cluster.py --only rates             # needs both cores of a machine with two

One worker and two restore the same folder with the bundled model; then two do so while actors are killed at random
moments and the command itself is killed once, and the run is continued. Each result must exist, equal that of a run
without Ray, and be recorded once. The last line is one JSON document.
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
from continued import COMMAND, MANIFEST, fill, finished, restore_arguments, results

ACTOR = "ray::MapWorker"


def actors(pid: int) -> list[psutil.Process]:
    """Return the actors among the descendants of a process that have loaded the models."""
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


def family(pid: int) -> list[tuple[int, bool, int, float]]:
    """Return (id, whether it is an actor, resident bytes, processor time) of a process and those below it."""
    try:
        members = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    found = []
    for process in members:
        try:
            with process.oneshot():
                times, name = process.cpu_times(), "".join(process.cmdline())
                is_actor = ACTOR in name
                found.append(
                    (process.pid, is_actor, process.memory_info().rss, times.user + times.system)
                )
        except psutil.Error:
            continue
    return found


class Run:
    """A restore command in a separate process, with a monitor."""

    chance = random.Random(0)
    """Chooses which actor is killed."""

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
        self.seconds: dict[int, tuple[bool, float]] = {}
        """By process, whether it was an actor, and its processor time."""

    def kill_actors(self, target: Path, moments: list[int]) -> int:
        """Kill a random actor each time the target has so many results; return how many were killed."""
        killed = 0
        for moment in sorted(moments):
            while self.child.poll() is None:
                if sum(1 for _ in target.rglob("*.png")) >= moment and (
                    found := actors(self.child.pid)
                ):
                    self.chance.choice(found).kill()
                    killed += 1
                    break
                time.sleep(0.1)
        return killed

    def wait(self) -> str:
        """Wait for the end and return the output."""
        while self.child.poll() is None:
            members = family(self.child.pid)
            self.memory.append(sum(size for *_, size, _ in members))
            for pid, is_actor, _, seconds in members:
                was_actor, _ = self.seconds.get(pid, (False, 0.0))
                self.seconds[pid] = (is_actor or was_actor, seconds)
            time.sleep(0.5)
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


def recorded(folder: Path) -> Counter[str]:
    """Return how often each picture is recorded as done."""
    lines = (folder / MANIFEST).read_text().splitlines()
    records = [json.loads(line) for line in lines if line]
    return Counter(record["input"] for record in records if record["error"] is None)


def rate(source: Path, target: Path, workers: int) -> dict[str, object]:
    """Return the pictures per second of `workers` workers, from the first result on."""
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
        "processor_seconds_of_actors_and_of_all_else": [
            round(
                sum(seconds for is_actor, seconds in run.seconds.values() if is_actor == wanted), 1
            )
            for wanted in (True, False)
        ],
        "last_line": printed.splitlines()[-1],
    }


def rates(source: Path, place: Path) -> dict[str, object]:
    """Return the pictures per second of one worker and of two."""
    folders = {1: place / "one", 2: place / "two"}
    found = [rate(source, folder, workers) for workers, folder in folders.items()]
    one, two = (row["pictures_a_second"] for row in found)
    return {
        "rates": found,
        "two_over_one": round(two / one, 2),
        "one_equals_two": results(folders[1]) == results(folders[2]),
    }


def kills(source: Path, place: Path, count: int, chance: random.Random) -> dict[str, object]:
    """Return the outcome of a run whose actors are killed `count` times, and whose command is killed once.

    The moments are numbers of results, drawn at random, so that they do not depend on the machine's speed.
    """
    plain, torn = place / "plain", place / "torn"
    Run(source, plain).wait()
    wanted = results(plain)
    options = ("--cluster", "auto", "--workers", "2")
    run = Run(source, torn, *options)
    moments = chance.sample(range(1, len(wanted)), count + 1)
    *first, half = sorted(moments)[: count // 2 + 1]
    killed = run.kill_actors(torn, first)
    while run.child.poll() is None and len(finished(torn)) < half:
        time.sleep(0.1)
    run.child.kill()
    run.wait()
    before = recorded(torn)
    done = finished(torn)
    run = Run(source, torn, *options)
    watcher = threading.Thread(target=run.wait)
    watcher.start()
    killed += run.kill_actors(torn, [moment for moment in moments if moment > half])
    watcher.join()
    after, now = recorded(torn), finished(torn)
    return {
        "killed_actors": killed,
        "recorded_when_the_command_was_killed": len(before),
        "equal_to_a_run_without_ray": results(torn) == wanted,
        "results": len(wanted),
        "recorded": len(after),
        "recorded_more_than_once": sum(times > 1 for times in after.values()),
        "finished_and_written_again": sum(now.get(path) != at for path, at in done.items()),
        "records_that_are_not_true": len(after) - len(now),
    }


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("rates", "kills"), help="one of the two parts")
    args = parser.parse_args()
    found: dict[str, object] = {"pictures": args.pictures, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        place, source = Path(name), Path(name, "in")
        fill(source, args.pictures, args.seed)
        if args.only != "kills":
            found |= rates(source, place)
        if args.only != "rates":
            found |= kills(source, place, args.kills, random.Random(args.seed))
    print(json.dumps(found))
    whole = found.get("one_equals_two", True) and found.get("equal_to_a_run_without_ray", True)
    wrong = ("recorded_more_than_once", "finished_and_written_again", "records_that_are_not_true")
    return 0 if whole and not any(found.get(name) for name in wrong) else 1


if __name__ == "__main__":
    sys.exit(main())
