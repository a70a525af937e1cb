"""Memory of a ComfyUI while it restores one picture after another.

    python benchmarks/host_memory.py ~/comfy/ComfyUI ~/comfy/ComfyUI-0.33.0

Each host is started as in the host tests (tests/support/comfy_host.py) and restores the bundled picture
repeatedly with the bundled model, each time with another seed and some detail, so that nothing comes from its cache.
After every run, the resident memory of the host's process is read from /proc, so this needs Linux. The last line of the
output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from resident import resident_bytes

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
SETTLED = 3
"""The run after which memory must not grow: the first ones load the models and fill memory pools."""
LIMIT = 1.02


def host_class():
    """Return the class that starts a host in the tests."""
    sys.path.insert(0, str(SUPPORT))
    from comfy_host import Host

    return Host


def restore_repeatedly(host, runs, upscale, overlap):
    """Return the resident bytes of a running host after each of `runs` restorations."""
    resident = []
    for seed in range(runs):
        prompt = host.whole(
            upscale=upscale, overlap=overlap, seed=seed, detail=0.2, color_match="wavelet"
        )
        prompt["keep"] = {"class_type": "PreviewImage", "inputs": {"images": ["restore", 0]}}
        host.run(prompt)
        resident.append(resident_bytes(host.process.pid))
    return resident


def measure(folder, runs, upscale, overlap):
    """Start a host, restore, stop it, and return its record."""
    with tempfile.TemporaryDirectory() as base:
        host = host_class()(folder, Path(base))
        try:
            version = host.get("/system_stats")["system"].get("comfyui_version")
            resident = restore_repeatedly(host, runs, upscale, overlap)
        finally:
            host.stop()
    return {
        "host": version,
        "resident_bytes": resident,
        "last_by_settled": round(resident[-1] / resident[SETTLED - 1], 4),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("hosts", type=Path, nargs="+", help="folders with a ComfyUI")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--upscale", type=float, default=4.0)
    parser.add_argument("--overlap", type=int, default=16)
    args = parser.parse_args()
    if args.runs <= SETTLED:
        parser.error(f"--runs must be more than {SETTLED}, got {args.runs}.")
    records = []
    for folder in args.hosts:
        record = measure(folder.expanduser().resolve(), args.runs, args.upscale, args.overlap)
        megabytes = ", ".join(f"{value / 1e6:.0f}" for value in record["resident_bytes"])
        print(
            f"{record['host']}: {megabytes} MB, last by run {SETTLED} {record['last_by_settled']}"
        )
        records.append(record)
    settings = {"runs": args.runs, "upscale": args.upscale, "overlap": args.overlap}
    print(json.dumps({**settings, "limit": LIMIT, "hosts": records}))
    return int(any(record["last_by_settled"] > LIMIT for record in records))


if __name__ == "__main__":
    sys.exit(main())
