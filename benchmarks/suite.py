"""The restoration in one command: start, stages, pictures, tile batches, types, adapters, cleaner, compiling, baseline.

    python benchmarks/suite.py                                  # the bundled networks
    python benchmarks/suite.py --size narrow --only growth      # official tiles, a thousandth of the work
    python benchmarks/make_full_size.py FOLDER
    python benchmarks/suite.py --size full --folder FOLDER --dtype bf16 --only tile,baseline

Per stage: seconds, cost (seconds times the machine's matrix rate, measured before and after in the same dtype) and the
fraction of that rate. On a CPU, seconds are processor time. The cleaner needs spandrel, and adapters patched by a host
need a ComfyUI (--comfyui or COMFYUI_PATH); otherwise their rows say what is missing. The last line of the output is one
JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform

import numpy as np
import torch
from first_tile import start_rows
from measure import DTYPES, Stages, clock, picture
from networks import load_networks
from patched import CASE as PATCHED
from patched import patched_row
from plain import plain_tile, plain_tile_count, restore_plainly
from timed import restore, row

from varestorer_core.precision import decoder_dtype
from varestorer_core.tiles.tiling import plan_tiles

CASES = (
    "start",
    "tile",
    "cleaner",
    "pictures",
    "growth",
    "batches",
    "dtypes",
    "lora",
    "compile",
    "baseline",
)


def skipped(case, reason):
    """Print that a case is skipped, with the reason; return its row."""
    print(f"{case}: skipped, {reason}")
    return {"case": case, "skipped": reason}


def run_start(args):
    rows = start_rows(args.size, args.folder, args.dtype, args.device)
    for result in rows:
        print(", ".join(f"{name} {value}" for name, value in result.items()), flush=True)
    return rows


def run_tile(args, load):
    networks = load()
    if not args.no_warm_up:
        restore(networks, [picture(networks.one_tile, networks.one_tile)], args)
    work = lambda: restore(networks, [picture(networks.one_tile, networks.one_tile)], args)  # noqa: E731
    return [row("one tile", args, networks, work)]


def run_cleaner(args, load):
    """Measure one tile with a cleaner of the official shape, regardless of the networks' size."""
    try:
        from swinir import random_cleaner

        multiplies = decoder_dtype(DTYPES[args.dtype], args.device)
        cleaner = random_cleaner(args.device, multiplies)
    except ImportError:
        return [skipped("cleaner", "spandrel is not installed. Run: pip install spandrel")]
    networks = load()
    image = picture(networks.one_tile, networks.one_tile)
    work = lambda: restore(networks, [image], args, cleaner=cleaner)  # noqa: E731
    work()
    return [row("one tile with the cleaner", args, networks, work)]


def run_sizes(args, load, sizes):
    networks, rows = load(), []
    restore(networks, [picture(networks.one_tile, networks.one_tile)], args)
    for height, width in sizes:
        image = picture(height, width)
        work = lambda image=image: restore(networks, [image], args)  # noqa: E731
        result = row(f"{width} x {height}", args, networks, work)
        result["seconds_per_megapixel"] = round(
            result["together_seconds"] / (height * width / 1e6), 4
        )
        result["output_bytes"] = 3 * height * width * 4
        rows.append(result)
    return rows


def run_batches(args, load):
    networks, rows = load(), []
    for batch in (1, 2, 4, 8):
        tiles = [picture(networks.one_tile, networks.one_tile)] * batch
        work = lambda tiles=tiles, batch=batch: restore(networks, tiles, args, batch=batch)  # noqa: E731
        work()
        rows.append(row(f"tile batch {batch}", args, networks, work))
    return rows


def run_dtypes(args, load):
    rows = []
    for dtype in ("fp32", "bf16", "fp8"):
        networks = load(dtype=dtype)
        weights = sum(p.numel() * p.element_size() for p in networks.transformer.parameters())
        image = picture(networks.one_tile, networks.one_tile)
        work = lambda n=networks, image=image: restore(n, [image], args)  # noqa: E731
        work()
        rows.append(row(f"weights in {dtype}", args, networks, work))
        rows[-1]["weight_bytes"] = weights
    return rows


def run_lora(args, load):
    if args.size == "tiny":
        return [skipped("lora", "the bundled model has no adapters: use --size narrow or full")]
    rows = []
    for lora in ("merged", "unmerged"):
        networks = load(lora=lora)
        image = picture(networks.one_tile, networks.one_tile)
        work = lambda n=networks, image=image: restore(n, [image], args)  # noqa: E731
        work()
        rows.append(row(f"adapters {lora}", args, networks, work))
    if not args.comfyui:
        reason = "no ComfyUI was specified: set --comfyui or COMFYUI_PATH to its folder"
        return [*rows, skipped(PATCHED, reason)]
    dtype = "bf16" if args.dtype == "bf16" else "fp32"
    for host in args.comfyui.split(os.pathsep):
        gpu = args.device.type != "cpu"
        rows.append(patched_row(host, args.size, args.folder, dtype, gpu=gpu))
        print(rows[-1])
    return rows


def run_compile(args, load):
    networks = load()
    image = picture(networks.one_tile, networks.one_tile)
    eager = row("not compiled", args, networks, lambda: restore(networks, [image], args))
    compiled = torch.compile(networks.transformer)
    started = clock(args.device)
    try:
        restore(networks, [image], args, call=compiled)
    except Exception as error:
        return [eager, {"case": "compiled", "failed": f"{type(error).__name__}: {error}"[:300]}]
    warm_up = clock(args.device) - started
    work = lambda: restore(networks, [image], args, call=compiled)  # noqa: E731
    result = row("compiled", args, networks, work)
    result["warm_up_seconds"] = round(warm_up, 1)
    return [eager, result]


def run_baseline(args, load):
    """Compare with the reference implementation on 1800 x 1200; at full size, one tile of each times their counts."""
    height, width = 1200, 1800
    ours = load()
    tiles = len(plan_tiles(height, width, ours.tile, ours.tile // 8))
    in_part = args.size == "full" and not args.whole
    if in_part:
        side = ours.tile
        image = picture(side, side)
        first = row("ours, one tile", args, ours, lambda: restore(ours, [image], args))
        del ours
        plain = load(lora="unmerged")
        eight = (image.movedim(0, -1) * 255).byte().numpy()
        stages = Stages(args.device)

        @torch.inference_mode()
        def one_tile():
            plain_tile(plain, args.device, stages)(eight)
            return stages, 1

        second = row("plain, one tile", args, plain, one_tile)
    else:
        image = picture(height, width)
        restore(ours, [image[:, : ours.tile, : ours.tile]], args)
        first = row("ours, 1800 x 1200", args, ours, lambda: restore(ours, [image], args))
        del ours
        lora = "merged" if args.size == "tiny" else "unmerged"
        plain = load(lora=lora)
        eight = np.ascontiguousarray((image.movedim(0, -1) * 255).byte().numpy())
        stages = Stages(args.device)

        def whole():
            restore_plainly(plain, eight, args.device, stages)
            return stages, plain_tile_count(plain, height, width)

        second = row("plain, 1800 x 1200", args, plain, whole)
    costs = []
    for result, count in ((first, tiles), (second, plain_tile_count(plain, height, width))):
        whole_cost = sum(result["tflop_at_matrix_rate"].values())
        costs.append(whole_cost * count / result["tiles"])
    ratio = {
        "case": "baseline ratio, 1800 x 1200",
        "tiles_ours": tiles,
        "tiles_plain": plain_tile_count(plain, height, width),
        "cost_ours_tflop": round(costs[0], 3),
        "cost_plain_tflop": round(costs[1], 3),
        "times_faster": round(costs[1] / costs[0], 3),
        "measured_whole": not in_part,
    }
    print(f"1800 x 1200: {ratio['times_faster']} times faster than the reference implementation")
    return [first, second, ratio]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "narrow", "full"), default="tiny")
    parser.add_argument("--folder", help="folder of the full-size files, by make_full_size.py")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", default="", help=f"cases, of {', '.join(CASES)}; default all")
    parser.add_argument(
        "--comfyui",
        default=os.environ.get("COMFYUI_PATH", ""),
        help="ComfyUI folders for the case `lora`; default COMFYUI_PATH",
    )
    parser.add_argument(
        "--no-warm-up", action="store_true", help="skip the warm-up of the case `tile`"
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help="run the case `baseline` at full size on the whole picture",
    )
    args = parser.parse_args()
    if args.size == "full" and not args.folder:
        parser.error("--size full needs --folder")
    wanted = args.only.split(",") if args.only else CASES
    if unknown := set(wanted) - set(CASES):
        parser.error(f"--only must be of {', '.join(CASES)}, got {', '.join(sorted(unknown))}")

    def load(*, dtype=args.dtype, lora="merged"):
        weights = torch.float8_e4m3fn if dtype == "fp8" else DTYPES[dtype]
        return load_networks(args.size, args.folder, args.device, weights, lora=lora)

    cases = {
        "start": lambda: run_start(args),
        "tile": lambda: run_tile(args, load),
        "cleaner": lambda: run_cleaner(args, load),
        "pictures": lambda: run_sizes(args, load, [(1024, 1024), (1200, 1800)]),
        "growth": lambda: run_sizes(args, load, [(1024, 1024), (4096, 4096)]),
        "batches": lambda: run_batches(args, load),
        "dtypes": lambda: run_dtypes(args, load),
        "lora": lambda: run_lora(args, load),
        "compile": lambda: run_compile(args, load),
        "baseline": lambda: run_baseline(args, load),
    }
    rows = [result for case in wanted for result in cases[case]()]
    report = {
        "rows": rows,
        "size": args.size,
        "dtype": args.dtype,
        "device": "cpu" if args.device.type == "cpu" else torch.cuda.get_device_name(args.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
