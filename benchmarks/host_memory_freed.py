"""What a model leaves in the memory of a ComfyUI that has freed it.

    python benchmarks/make_full_size.py DIR
    python benchmarks/host_memory_freed.py ~/comfy/ComfyUI --files DIR

The host is started as the host tests start it, restores the bundled picture with the bundled model, then with the
files of DIR (one tile of 512 x 512, random weights of the official size in bf16), and is asked to free its memory, as
its button does (`/free`). Printed is the resident memory of its process after each step, mapped files included, which
only Linux has. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from host_memory import host_class
from resident import resident_bytes

FILES = {"diffusion_models": "varestorer.pth", "vae": "infinity_vae_d32reg.pth"}
SETTLING_SECONDS = 10.0
"""Within which the host frees more in a thread of its own, if it does; repeated until the memory is constant."""
LONGEST_SECONDS = 3600
"""A tile of the official model takes a slow processor many minutes."""


def link_files(host, folder):
    """Let a host find the files of a folder."""
    for kind, name in FILES.items():
        host.model_file(kind, name).symlink_to((folder / name).resolve())


def official(host, weight_dtype):
    """Return the prompt of a restoration with the linked files."""
    prompt = host.whole(upscale=1.0, seed=1, detail=0.2)
    prompt["model"]["inputs"] |= {
        "model_name": FILES["diffusion_models"],
        "weight_dtype": weight_dtype,
    }
    prompt["vae"]["inputs"]["vae_name"] = FILES["vae"]
    prompt["keep"] = {"class_type": "PreviewImage", "inputs": {"images": ["restore", 0]}}
    return prompt


def measure(folder, files, weight_dtype, rounds):
    """Start a host, load and free, stop it, and return its record."""
    with tempfile.TemporaryDirectory() as base:
        host = host_class()(folder, Path(base))
        host.run_seconds = LONGEST_SECONDS
        steps = []

        def note(step):
            steps.append({"after": step, "resident_bytes": resident_bytes(host.process.pid)})
            print(f"{steps[-1]['resident_bytes'] / 1e6:7.0f} MB after {step}", flush=True)

        def free():
            host.fetch("/free", {"unload_models": True, "free_memory": True})
            before = None
            for _ in range(6):
                time.sleep(SETTLING_SECONDS)
                now = resident_bytes(host.process.pid)
                if before is not None and abs(now - before) < 50e6:
                    break
                before = now

        try:
            version = host.get("/system_stats")["system"].get("comfyui_version")
            note("start")
            link_files(host, files)
            host.run(host.whole(upscale=1.0))
            note("a restoration by the bundled model")
            for _ in range(rounds):
                host.run(official(host, weight_dtype))
                note("a restoration by the official size")
                free()
                note("/free")
        finally:
            host.stop()
    return {"host": version, "weight_dtype": weight_dtype, "steps": steps}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("hosts", type=Path, nargs="+", help="folders with a ComfyUI")
    parser.add_argument("--files", type=Path, required=True, help="folder of make_full_size.py")
    parser.add_argument("--weight-dtype", default="bf16", choices=("bf16", "fp32", "default"))
    parser.add_argument("--rounds", type=int, default=2, help="how often to load and to free")
    args = parser.parse_args()
    records = [
        measure(host.expanduser().resolve(), args.files, args.weight_dtype, args.rounds)
        for host in args.hosts
    ]
    print(json.dumps({"hosts": records}))


if __name__ == "__main__":
    sys.exit(main())
