"""Every figure of docs/benchmarks.md in one command: pictures, tile batches, types, adapters, compiling, baseline.

    python benchmarks/suite.py                                  # the bundled networks
    python benchmarks/suite.py --size narrow --only growth      # official tiles, a thousandth of the work
    python benchmarks/make_full_size.py FOLDER
    python benchmarks/suite.py --size full --folder FOLDER --dtype bf16 --only tile,baseline

Per stage: seconds, cost (seconds times the machine's matrix rate, measured before and after in the same type)
and the share of that rate. On a CPU seconds are of the processor. The cleaner needs spandrel and is left out.
The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import platform

import numpy as np
import torch
from measure import DTYPES, Stages, clock, forget_peaks, matrix_rate, peak_memory, resident_memory
from networks import flops_of_a_tile, load_networks
from plain import plain_attention, plain_tile, plain_tile_count, restore_plainly

from varestorer_core.pipeline import decode_tiles, encode_pyramid, restore_codes
from varestorer_core.tiling import plan_tiles

PARTS = ("encode", "pyramid", "transformer", "decode", "blend")
CASES = ("tile", "pictures", "growth", "batches", "dtypes", "lora", "compile", "baseline")


class TimedTransformer:
    """A transformer as `restore_codes` calls it, with a clock."""

    def __init__(self, model, stages, call=None):
        self.config = model.config
        self._run = stages.timed("transformer", model if call is None else call)

    def __call__(self, *args, **kwargs):
        return self._run(*args, **kwargs)


@torch.inference_mode()
def restore(networks, pictures, args, *, batch=1, call=None):
    """Restore pictures stage by stage; return the stages' clock, the tiles and the results."""
    device, stages = args.device, Stages(args.device)
    text = stages.timed("prompt", networks.transformer.encode_text)()
    pyramid = stages.timed("pyramid", encode_pyramid)(
        pictures,
        stages.timed("encode", lambda tiles: networks.tokenizer.encode(tiles.to(device))),
        schedule=networks.schedule,
        patch_size=networks.tokenizer.config.patch_size,
        upscale=1.0,
        overlap=networks.tile // 8,
        tile_batch=batch,
    )
    codes = stages.timed("pyramid", restore_codes)(
        TimedTransformer(networks.transformer, stages, call),
        pyramid,
        text,
        tile_batch=batch,
        device=device,
    )
    results = stages.timed("blend", decode_tiles)(
        stages.timed("decode", lambda part: networks.tokenizer.decode(part.to(device))),
        codes,
        pyramid.geometry,
        color_match="wavelet",
        tile_batch=batch,
    )
    stages.take_away("pyramid", "encode", "transformer")
    stages.take_away("blend", "decode")
    return stages, len(pyramid.bits), results


def row(name, args, networks, work):
    """Measure one case; `work` returns (stages, tiles, ...). Print a line, return a dictionary."""
    dtype = DTYPES.get(args.dtype, torch.bfloat16)
    before = matrix_rate(args.device, dtype)
    resident = resident_memory()
    forget_peaks(args.device)
    stages, tiles, *_ = work()
    host, on_device = peak_memory(args.device)
    rate = (before + matrix_rate(args.device, dtype)) / 2
    names = [part for part in stages.seconds if part != "all"]
    flops = flops_of_a_tile(networks)
    result = {
        "case": name,
        "tiles": tiles,
        "seconds": {n: round(stages.seconds[n], 4) for n in names},
        "wall_seconds": round(sum(stages.wall[n] for n in names), 2),
        "together_seconds": round(sum(stages.seconds[n] for n in names), 4),
        "tflop_at_matrix_rate": {n: round(stages.seconds[n] * rate / 1e12, 4) for n in names},
        "share_of_rate": {
            n: round(flops[n] * tiles / (stages.seconds[n] * rate), 3) for n in names if n in flops
        },
        "matrix_gflops": round(rate / 1e9, 1),
        "peak_host_bytes": host,
        "peak_host_bytes_above_start": host - resident,
        "peak_device_bytes": on_device,
    }
    seconds = "  ".join(f"{n} {stages.seconds[n]:.3f}" for n in names)
    each = result["together_seconds"] / max(1, tiles)
    print(f"{name}: {tiles} tiles, {each:.4f} s each | {seconds} | {host / 1e9:.2f} GB", flush=True)
    return result


def picture(height, width):
    """Return smooth noise (3, H, W) in [0, 1]."""
    torch.manual_seed(0)
    small = torch.rand(1, 3, max(2, height // 16), max(2, width // 16))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]


def run_tile(args, load):
    networks = load()
    if not args.no_warm_up:
        restore(networks, [picture(networks.tile, networks.tile)], args)
    work = lambda: restore(networks, [picture(networks.tile, networks.tile)], args)  # noqa: E731
    return [row("one tile", args, networks, work)]


def run_sizes(args, load, sizes):
    networks, rows = load(), []
    restore(networks, [picture(networks.tile, networks.tile)], args)
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
        tiles = [picture(networks.tile, networks.tile)] * batch
        work = lambda tiles=tiles, batch=batch: restore(networks, tiles, args, batch=batch)  # noqa: E731
        work()
        rows.append(row(f"tile batch {batch}", args, networks, work))
    return rows


def run_dtypes(args, load):
    rows = []
    for dtype in ("fp32", "bf16", "fp8"):
        networks = load(dtype=dtype)
        weights = sum(p.numel() * p.element_size() for p in networks.transformer.parameters())
        image = picture(networks.tile, networks.tile)
        work = lambda n=networks, image=image: restore(n, [image], args)  # noqa: E731
        work()
        rows.append(row(f"weights in {dtype}", args, networks, work))
        rows[-1]["weight_bytes"] = weights
    return rows


def run_lora(args, load):
    if args.size == "tiny":
        return [{"case": "lora", "skipped": "the bundled model has no adapters"}]
    rows = []
    # Patched in by a host, weights are what merging makes them: no time of its own in a run.
    for lora in ("merged", "unmerged"):
        networks = load(lora=lora)
        image = picture(networks.tile, networks.tile)
        work = lambda n=networks, image=image: restore(n, [image], args)  # noqa: E731
        work()
        rows.append(row(f"adapters {lora}", args, networks, work))
    return rows


def run_compile(args, load):
    networks = load()
    image = picture(networks.tile, networks.tile)
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
    """Ours and the plain way on 1800 x 1200; at full size one tile of each, times the counts."""
    height, width = 1200, 1800
    ours = load()
    tiles = len(plan_tiles(height, width, ours.tile, ours.tile // 8))
    if args.size == "full":
        side = ours.tile
        image = picture(side, side)
        first = row("ours, one tile", args, ours, lambda: restore(ours, [image], args))
        del ours
        plain = load(lora="unmerged", attend=plain_attention)
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
        lora = "merged" if args.size == "tiny" else "unmerged"
        plain = load(lora=lora, attend=plain_attention)
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
        "measured_whole": args.size != "full",
    }
    print(f"1800 x 1200: {ratio['times_faster']} times faster than the plain way")
    return [first, second, ratio]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=("tiny", "narrow", "full"), default="tiny")
    parser.add_argument("--folder", help="of the full-size files, by make_full_size.py")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", default="", help=f"of {', '.join(CASES)}; default all")
    parser.add_argument("--no-warm-up", action="store_true", help="of the case `tile`")
    args = parser.parse_args()
    if args.size == "full" and not args.folder:
        parser.error("--size full needs --folder")
    wanted = args.only.split(",") if args.only else CASES
    if unknown := set(wanted) - set(CASES):
        parser.error(f"--only knows {', '.join(CASES)}, got {', '.join(sorted(unknown))}")

    def load(*, dtype=args.dtype, lora="merged", attend=None):
        weights = torch.float8_e4m3fn if dtype == "fp8" else DTYPES[dtype]
        extra = {} if attend is None else {"attend": attend}
        return load_networks(args.size, args.folder, args.device, weights, lora=lora, **extra)

    cases = {
        "tile": lambda: run_tile(args, load),
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
