"""Start-up time that this pack adds to a ComfyUI.

    python benchmarks/host_start.py ~/comfy/ComfyUI ~/comfy/ComfyUI-0.33.0 --rounds 5

Each host starts with and without the pack in turn, in a folder of its own on the CPU, and exits when it is ready
(--quick-test-for-ci). Reported are the host's own line ("Import times for custom nodes", in tenths of a second) and
the differences of the whole starts, in wall-clock time and in processor time, which other programs affect less. One
start of each kind before that is not counted: it fills the caches. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

PACK = Path(__file__).resolve().parents[1]
FOLDER = "VARestorer"
LIMIT = 0.3
"""Seconds that the pack may add."""


def host_python(host: Path) -> str:
    """Return the interpreter of a host's own environment, or else the current one."""
    found = [p for e in (".venv", "venv") if (p := host / e / "bin" / "python").is_file()]
    return str(found[0]) if found else sys.executable


def start(host: Path, base: Path, arguments: list[str]) -> dict[str, float | None]:
    """Start a host once; return its wall-clock seconds, processor seconds, and those it reports for the pack."""
    command = [host_python(host), "main.py", "--cpu", "--quick-test-for-ci", "--disable-api-nodes"]
    command += ["--base-directory", str(base), "--database-url", f"sqlite:///{base}/comfyui.db"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, *arguments],
        cwd=host,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{host} did not start:\n{done.stdout[-3000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    line = re.search(rf"([\d.]+) seconds(.*): .*{FOLDER}\s*$", done.stdout, re.MULTILINE)
    if line and line[2]:
        raise SystemExit(f"{host} did not load the pack:\n{done.stdout[-3000:]}")
    return {"wall": wall, "processor": used, "reported": float(line[1]) if line else None}


def measure(host: Path, rounds: int, arguments: list[str]) -> dict:
    """Return the starts of a host with and without the pack, and the median difference."""
    with tempfile.TemporaryDirectory() as folder:
        bases = {name: Path(folder) / name for name in ("without", "with")}
        for base in bases.values():
            (base / "custom_nodes").mkdir(parents=True)
        (bases["with"] / "custom_nodes" / FOLDER).symlink_to(PACK, target_is_directory=True)
        runs = {name: [] for name in bases}
        for _ in range(rounds + 1):
            for name, base in bases.items():
                runs[name].append(start(host, base, arguments))
    runs = {name: counted[1:] for name, counted in runs.items()}
    if any(run["reported"] is None for run in runs["with"]):
        raise SystemExit(f"{host} does not report the pack: was it loaded?")
    report = {"host": host.name, "reported": [run["reported"] for run in runs["with"]]}
    for clock in ("wall", "processor"):
        columns = {name: [run[clock] for run in counted] for name, counted in runs.items()}
        added = [b - a for a, b in zip(columns["without"], columns["with"], strict=True)]
        report[clock] = {
            "without": round(median(columns["without"]), 2),
            "with": round(median(columns["with"]), 2),
            "added": [round(value, 2) for value in added],
            "added_median": round(median(added), 2),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("host", nargs="+", type=Path, help="folder of a ComfyUI")
    parser.add_argument("--rounds", type=int, default=5, help="counted starts of each kind")
    args, passed_on = parser.parse_known_args()
    hosts = [measure(host.expanduser().resolve(), args.rounds, passed_on) for host in args.host]
    for report in hosts:
        print(f"{report['host']}: reports {max(report['reported'])} s at most for the pack")
        for clock in ("wall", "processor"):
            one = report[clock]
            print(
                f"  {clock:10} {one['without']:6.2f} s without, {one['with']:6.2f} s with the pack, "
                f"added {one['added_median']:+.2f} s ({min(one['added']):+.2f} to {max(one['added']):+.2f})"
            )
    print(json.dumps({"limit": LIMIT, "rounds": args.rounds, "hosts": hosts}))


if __name__ == "__main__":
    main()
