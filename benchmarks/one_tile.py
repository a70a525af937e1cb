"""Time and memory of one tile in every network, by stage, in relation to the machine's matrix rate.

    python benchmarks/make_full_size.py FOLDER            # random weights of the official shapes, once
    python benchmarks/one_tile.py --model FOLDER/varestorer.pth --vae FOLDER/infinity_vae_d32reg.pth --dtype bf16

With --cleaner, a SwinIR of the official shape runs first, which needs spandrel.

With --compare, every stage is timed with and without the CPU kernels, one right after the other, in alternating order,
and the ratios of these pairs are printed: their median, and the range of the middle half of them.

Random weights are fine: the time of a stage does not depend on values. Cost is also printed as seconds times the matrix
rate measured just before and after each stage, which makes machines comparable, even busy ones. On a CPU, both are
in processor time. The chosen CPU kernels are printed. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from contextlib import nullcontext
from functools import cache
from unittest import mock

import torch
from measure import DTYPES, clock, matrix_rate, peak_memory
from swinir import random_cleaner

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.kernels import kernel_choices, memory_kept
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import sample_bits
from varestorer_core.precision import decoder_dtype
from varestorer_core.schedule import get_schedule

_LEAST_SECONDS = 0.03
"""To be compared, a shorter stage runs several times at once: single milliseconds are noise."""
_PAIRS_SECONDS = 0.3
"""In each repeat, pairs of a stage are timed for about as long as this, at least one."""


def flops(config, tokens, logits):
    """Return the FLOPs of linear layers and self-attention for one tile, 2 per multiply-add."""
    width = config.embed_dim
    linears = 2 * tokens * config.depth * (4 * width**2 + 2 * width**2 + 2 * width * config.ffn_dim)
    head = 2 * logits * width * 2 * config.codebook_dim
    attention = 4 * tokens**2 * width * config.depth
    return linears + head + attention


def _quartiles(ratios):
    """Return the first quartile, the median, and the third quartile."""
    return statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3


def without_kernels():
    """Return the context in which the reference implementation runs."""
    return mock.patch.dict(os.environ, VARESTORER_CPU_KERNELS="off")


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=str(asset_path(TINY_TRANSFORMER)))
    parser.add_argument("--vae", default=str(asset_path(TINY_TOKENIZER)))
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cleaner", action="store_true", help="clean the tile first")
    parser.add_argument("--repeats", type=int, default=1, help="timed runs after one warm-up")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also time every stage with the CPU kernels off",
    )
    parser.add_argument("--no-warm-up", action="store_true", help="also count the first run")
    args = parser.parse_args()
    device, dtype = torch.device(args.device), DTYPES[args.dtype]

    started = time.perf_counter()
    tensors, metadata = read_checkpoint(args.model, kind="transformer")
    model = load_transformer(
        tensors, metadata, name=args.model, dtype=dtype, device=device, consume=True
    )
    decoding = decoder_dtype(dtype, device)
    tensors, metadata = read_checkpoint(args.vae, kind="tokenizer")
    tokenizer = load_tokenizer(
        tensors,
        metadata,
        name=args.vae,
        device=device,
        decoder_dtype=decoding,
        consume=True,
    )
    clean = random_cleaner(device, decoding) if args.cleaner else None
    seconds = {"load": time.perf_counter() - started}

    schedule = get_schedule(1.0, model.config.pixel_class)
    image = (
        torch.rand(1, 3, *schedule.pixel_size(tokenizer.config.patch_size), device=device) * 2 - 1
    )
    runs = []  # of times by stage
    ratios = {}  # by stage: time with the CPU kernels over time without them, pair by pair

    def rate_now():
        return matrix_rate(device, dtype, side=512 if args.compare else 2048)

    if args.compare:  # the rate cancels within one run
        rate_now = cache(rate_now)

    def timed(work, loops=1):
        before = rate_now()
        begun, used = time.perf_counter(), clock(device)
        for _ in range(loops):
            result = work()
        used = (clock(device) - used) / loops
        seconds_of_wall = (time.perf_counter() - begun) / loops
        rate = (before + rate_now()) / 2
        return result, (seconds_of_wall, used * rate, rate)

    def pair(work, loops, plain_first):
        """Return the result and the times of a stage, and its cost with the CPU kernels over that without them."""
        costs = {}
        for is_plain in (plain_first, not plain_first):
            with without_kernels() if is_plain else nullcontext():
                made, times = timed(work, loops)
            costs[is_plain] = times[1]
            if not is_plain:
                result, kept = made, times
        return result, kept, costs[False] / costs[True]

    def run():
        """Return the times of all stages."""
        times = {}

        def stage(name, work):
            if not args.compare:
                result, times[name] = timed(work)
                return result
            once = runs[-1][name][0] if runs else _PAIRS_SECONDS
            loops = math.ceil(_LEAST_SECONDS / once)
            for _ in range(math.ceil(_PAIRS_SECONDS / (2 * loops * once))):
                found = ratios.setdefault(name, [])
                result, times[name], ratio = pair(work, loops, len(found) % 2 == 1)
                found.append(ratio)
            return result

        picture = image if clean is None else stage("clean", lambda: clean(image))
        features = stage("encode", lambda: tokenizer.encode(picture))
        bits = stage("quantise", lambda: quantize(features, schedule).bits)
        text = stage("prompt (once per run)", model.encode_text)
        tokens = pyramid_tokens(bits, schedule)
        logits = stage("transformer", lambda: model(tokens, text, schedule, lq_bits=bits))
        codes = stage("sample", lambda: dequantize(sample_bits(logits), schedule))
        stage("decode", lambda: tokenizer.decode(codes))
        return times

    with memory_kept():  # as between the tiles of a picture
        warm_ups = 0 if args.no_warm_up else 2 if args.compare else 1
        for _ in range(warm_ups):
            runs.append(run())
        ratios.clear()
        for _ in range(args.repeats):
            runs.append(run())
    runs = runs[warm_ups:]
    middle = {name: sorted(r[name] for r in runs)[len(runs) // 2] for name in runs[0]}
    seconds |= {name: wall for name, (wall, _, _) in middle.items()}
    costs = {name: cost for name, (_, cost, _) in middle.items()}
    rates = [rate for _, _, rate in middle.values()]
    rate = sum(rates) / len(rates)
    work = flops(model.config, schedule.num_tokens_long, schedule.num_tokens)
    host, on_device = peak_memory(device)
    for name, value in seconds.items():
        cost = f"{costs[name] / 1e12:8.2f} TFLOP at the matrix rate" if name in costs else ""
        print(f"{name:20} {value:8.2f} s {cost}")
    print(f"matrix rate {rate / 1e9:.0f} GFLOP/s in {args.dtype}, peak memory {host / 1e9:.1f} GB")
    kernels = kernel_choices()
    for path, choice in kernels.items():
        ratio = choice["time_ratio"]
        why = "not timed" if ratio is None else f"ours takes {ratio} of PyTorch's time"
        print(f"{path}: {choice['kernel']} runs, {why}")
    shares = {name: _quartiles(found) for name, found in ratios.items()}
    for name, (low, share, high) in shares.items():
        print(
            f"{name:20} {share:8.2f} of the time without CPU kernels ({low:.2f} to {high:.2f} in half of "
            f"{len(ratios[name])} pairs)"
        )
    report = {
        "cpu_kernels": kernels,
        "time_over_time_without_cpu_kernels": {
            name: {"median": round(share, 3), "quartiles": [round(low, 3), round(high, 3)]}
            for name, (low, share, high) in shares.items()
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "tflop_at_matrix_rate": {name: round(value / 1e12, 3) for name, value in costs.items()},
        "together_tflop_at_matrix_rate": round(sum(costs.values()) / 1e12, 3),
        "matrix_gflops": round(rate / 1e9, 1),
        "transformer_tflop": round(work / 1e12, 3),
        "transformer_share_of_rate": round(work / costs["transformer"], 3),
        "peak_host_bytes": host,
        "peak_device_bytes": on_device,
        "dtype": args.dtype,
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
