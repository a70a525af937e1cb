"""Resident memory of a running ComfyUI over many restorations: it must not grow.

    COMFYUI_PATH=DIR python benchmarks/host_memory.py --runs 20

starts the host on the CPU as the host tests do, restores the bundled picture at --upscale with another seed each
time, and prints the host's resident memory after every run. Without COMFYUI_PATH it takes every host that the tests
would. Linux only. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests" / "host" / "conftest.py"


def host_module():
    """Return the module of the host tests that starts hosts."""
    spec = importlib.util.spec_from_file_location("host_conftest", TESTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resident(pid):
    """Return the resident bytes of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(host, node, args):
    """Return what the host held after each run, in bytes, and by how much the last is above the third."""
    prompt = host.whole(upscale=args.upscale, detail=0.5)
    prompt["keep"] = node("SaveImage", images=["restore", 0], filename_prefix="memory")
    held = []
    for seed in range(args.runs):
        prompt["restore"]["inputs"]["seed"] = seed
        host.run(prompt)
        held.append(resident(host.process.pid))
        print(f"{host.folder.name}, run {seed + 1}: {held[-1] / 1e6:.1f} MB", flush=True)
    growth = held[-1] / held[min(2, len(held) - 1)] - 1
    print(f"{host.folder.name}: run {len(held)} is {100 * growth:.2f} % above run 3")
    return {"host": host.folder.name, "resident_bytes": held, "growth": round(growth, 5)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--upscale", type=float, default=1.0)
    args = parser.parse_args()
    hosts = host_module()
    reports = []
    for folder in hosts.find_hosts():
        with tempfile.TemporaryDirectory() as base:
            host = hosts.Host(folder, Path(base) / "host")
            try:
                reports.append(measure(host, hosts.node, args))
            finally:
                host.stop()
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
