"""Fraction of the time that `restore` waits for files, on a folder of large JPEG files.

    python benchmarks/read_ahead.py                            # generates twelve JPEG files of 12 megapixels
    python benchmarks/read_ahead.py --data FOLDER --upscale 1 -- --device cuda

By default, the bundled model restores to a quarter of the side, which takes a CPU minutes. Further options
of restore, such as models and a device, come after `--`. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from loader import make_files


def main() -> int:
    """Restore the folder and return the exit code of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of pictures (default: made here)")
    parser.add_argument("--files", type=int, default=12, help="number of files to generate")
    parser.add_argument("--size", default="4000x3000", help="of the files to make")
    parser.add_argument("--upscale", default="0.25")
    parser.add_argument("more", nargs="*", help="options of restore, after --")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = args.data
        if folder is None:
            folder = Path(place, "in")
            folder.mkdir()
            make_files(folder, args.files, *map(int, args.size.split("x")))
        command = [sys.executable, "-m", "varestorer_core.cli", "restore", str(folder)]
        command += ["-o", str(Path(place, "out")), "--json", "--upscale", args.upscale, *args.more]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
    *pictures, last = lines
    found = {"pictures": len(pictures), "seconds": last["seconds"], "waited": last["waited"]}
    print(json.dumps({**found, "cores": os.cpu_count()}))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
