"""Differences between ComfyUI's Load Image and the command in reading picture files.

    python benchmarks/load_image.py ~/comfy/ComfyUI ~/comfy/ComfyUI-0.33.0 [--pictures FOLDER]

Each host is started as in the host tests (tests/support/comfy_host.py) and loads every picture of a folder,
and so does the command's own reader. Prints a Markdown table: the size that each reads, or its error message or class,
and the mean difference of the host's pixels from those of the command, in units of 1/255. The last line of the output
is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from host_memory import host_class

from varestorer_core.errors import ImageError
from varestorer_core.pictures import read_picture

PICTURES = Path(__file__).resolve().parents[1] / "tests" / "data" / "pictures"


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def read_by_command(path):
    """Return the result of the command: (H, W, 3) pixels and facts, or the reason for rejection."""
    try:
        picture = read_picture(path)
    except ImageError as error:
        return None, {"refused": str(error)}
    facts = {
        "size": list(picture.size[::-1]),
        "bits": picture.bit_depth,
        "alpha": picture.alpha is not None,
        "grey": picture.grey,
        "profile": picture.icc_profile is not None,
        "notes": [note.replace(str(path), path.name) for note in picture.notes],
    }
    return picture.rgb.movedim(0, -1).numpy(), facts


def read_by_host(host, path):
    """Return the result of Load Image: (N, H, W, 3) pixels and facts, or the reason for rejection."""
    shutil.copy(path, host.base / "input" / path.name)
    prompt = {
        "load": node("LoadImage", image=path.name),
        "rgb": node("TestKeep", image=["load", 0]),
        "mask": node("MaskToImage", mask=["load", 1]),
        "alpha": node("TestKeep", image=["mask", 0]),
    }
    try:
        arrays = host.arrays(host.run(prompt))
    except host.Error as error:
        return None, {"refused": error.messages[0].splitlines()[0]}
    pixels = arrays["rgb"]
    facts = {
        "size": list(pixels.shape[2:0:-1]),
        "pages": len(pixels),
        "alpha": bool(arrays["alpha"].any()),
    }
    return pixels, facts


def difference(ours, theirs):
    """Return the mean difference, in units of 1/255, of pictures of one size, else None."""
    if ours is None or theirs is None or ours.shape != theirs.shape[1:]:
        return None
    return round(float(np.abs(ours - theirs[0]).mean() * 255), 2)


def cell(facts, apart):
    if "refused" in facts:
        return "refused"
    text = "{} x {}".format(*facts["size"])
    if facts.get("pages", 1) > 1:
        text += f", {facts['pages']} pages"
    if facts["alpha"]:
        text += ", alpha"
    return text if apart is None else f"{text}: {apart}"


def measure(folder, paths):
    """Start a host, load all files, and return its version and its results by file."""
    with tempfile.TemporaryDirectory() as base:
        host = host_class()(folder, Path(base))
        try:
            version = host.get("/system_stats")["system"].get("comfyui_version")
            return version, {path.name: read_by_host(host, path) for path in paths}
        finally:
            host.stop()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("hosts", type=Path, nargs="+", help="folders with a ComfyUI")
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    args = parser.parse_args()
    paths = sorted(
        path
        for path in args.pictures.iterdir()
        if path.is_file() and path.suffix not in (".md", ".txt", ".py")
    )
    hosts = [measure(folder.expanduser().resolve(), paths) for folder in args.hosts]
    records = []
    print("| file | command |", " | ".join(f"Load Image {version}" for version, _ in hosts), "|")
    print("| --- " * (2 + len(hosts)) + "|")
    for path in paths:
        ours, facts = read_by_command(path)
        record, cells = {"file": path.name, "command": facts, "hosts": {}}, []
        for version, readings in hosts:
            theirs, found = readings[path.name]
            apart = difference(ours, theirs)
            record["hosts"][version] = {**found, "difference": apart}
            cells.append(cell(found, apart))
        mine = cell(facts, None)
        mine += "" if "refused" in facts else f", {facts['bits']} bits"
        mine += ", profile" if facts.get("profile") else ""
        print(f"| {path.name} | {mine} |", " | ".join(cells), "|")
        records.append(record)
    print(json.dumps({"pictures": records}))


if __name__ == "__main__":
    main()
