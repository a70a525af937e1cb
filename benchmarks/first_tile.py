"""Time to the first tile: imports, loading, and one tile, in a separate process.

    python benchmarks/first_tile.py [--size full --folder FOLDER] [--dtype bf16] [--device cuda]

Seconds are counted from the start of the process. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time


def start_rows(size, folder, dtype, device):
    """Start a process and return its rows "loading" and "first tile"."""
    command = [sys.executable, __file__, "--size", size, "--dtype", dtype, "--device", str(device)]
    command += ["--folder", str(folder)] if folder else []
    begun = time.time()
    done = subprocess.run(
        [*command, "--begun", str(begun)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return [{"case": "start", "failed": done.stderr.strip()[-300:]}]
    return json.loads(done.stdout.splitlines()[-1])["rows"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "narrow", "full"), default="tiny")
    parser.add_argument("--folder", help="folder of the full-size files, by make_full_size.py")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--begun", type=float, default=time.time(), help="start of the process")
    args = parser.parse_args()

    import torch
    from measure import DTYPES, picture
    from networks import load_networks

    from varestorer_core.loaded import LoadedStages
    from varestorer_core.restorer import Restorer

    imported = (time.time() - args.begun, time.process_time())
    networks = load_networks(args.size, args.folder, torch.device(args.device), DTYPES[args.dtype])
    loaded = (time.time() - args.begun, time.process_time())
    side = networks.one_tile
    stages = LoadedStages(networks.transformer, networks.tokenizer, device=args.device)
    Restorer(stages).restore(picture(side, side), upscale=1.0, overlap=side // 8)
    done = (time.time() - args.begun, time.process_time())
    rows = [
        # Narrow networks have no file, so their creation is timed.
        _row("loading", [after - before for before, after in zip(imported, loaded, strict=True)]),
        _row("first tile", done),
    ]
    rows[1]["imports_wall_seconds"] = round(imported[0], 2)
    for row in rows:
        print(
            f"{row['case']}: {row['wall_seconds']} s, processor time {row['processor_seconds']} s"
        )
    print(json.dumps({"rows": rows}))


def _row(case, seconds):
    """Return a row of (wall-clock seconds, processor seconds)."""
    return {
        "case": case,
        "wall_seconds": round(seconds[0], 3),
        "processor_seconds": round(seconds[1], 3),
    }


if __name__ == "__main__":
    main()
