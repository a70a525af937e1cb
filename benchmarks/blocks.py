"""Time of large layers on a CPU in strips and in blocks of rows, of the same kernels over the whole, and without them.

    python benchmarks/blocks.py [--dtype bf16] [--repeats 5]

The layers have official shapes and random weights. They take too long to be timed at the start of a run, so
`varestorer_core/cpu` splits them by their size; this measures whether that is right on a machine. The last line of the
output is one JSON document.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from contextlib import ExitStack, contextmanager, nullcontext
from statistics import median
from unittest import mock

import torch
from measure import DTYPES, clock

from varestorer_core.config import VARESTORER_2B
from varestorer_core.kernels import accelerate, memory_kept
from varestorer_core.models.autoencoder import ResidualBlock
from varestorer_core.models.layers import BlankLayers
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.schedule import get_schedule

SIZES = ("strips._STRIP", "rows._BLOCK", "rows._LAYER_ROWS")
"""Number of elements or rows above which the kernels split their input."""


@contextmanager
def split_above(size):
    """Context in which the kernels split what is larger than `size`."""
    with ExitStack() as stack:
        for name in SIZES:
            stack.enter_context(mock.patch(f"varestorer_core.cpu.{name}", size))
        yield


def residual_block(channels, side, dtype):
    """Return the work of one residual block of the encoder or decoder."""
    block = accelerate(ResidualBlock(channels, channels, 32, BlankLayers).to(dtype))
    x = torch.randn(1, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
    return lambda: block(x.clone())  # the block overwrites its input


def transformer_block(dtype):
    """Return the work of one block of the official transformer on all tokens of a tile."""
    config = dataclasses.replace(VARESTORER_2B, depth=1)
    model, schedule = accelerate(VARTransformer(config, dtype=dtype)), get_schedule(1.0, "0.25M")
    x, text = torch.randn(1, schedule.num_tokens_long, config.embed_dim), model.encode_text()
    rope = model.rope(schedule, 0, x.shape[1], x.device)
    return lambda: model.blocks[0](x, text.blocks[0], rope)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed runs, in turn, after one warm-up"
    )
    args = parser.parse_args()
    dtype = DTYPES[args.dtype]
    works = (
        ("residual block, 128 channels, 512 x 512", residual_block(128, 512, dtype), None),
        ("residual block, 256 channels, 256 x 256", residual_block(256, 256, dtype), None),
        # Three strips of 16 rows, although the whole is in the cache.
        ("residual block, 64 channels, 48 x 48", residual_block(64, 48, dtype), 16 * 48 * 64),
        ("transformer block, 3,545 tokens", transformer_block(dtype), None),
    )

    def seconds(work):
        started = clock(torch.device("cpu"))
        work()
        return clock(torch.device("cpu")) - started

    rows = []
    without = mock.patch.dict(os.environ, VARESTORER_CPU_KERNELS="off")
    for case, work, size in works:
        split, whole, off = [], [], []
        with memory_kept():
            for _ in range(args.repeats + 1):
                with split_above(size) if size else nullcontext():
                    split.append(seconds(work))
                with split_above(1 << 60):
                    whole.append(seconds(work))
                with without:
                    off.append(seconds(work))
        times = {"split": split, "whole": whole, "without kernels": off}
        row = {name: round(median(runs[1:]), 4) for name, runs in times.items()}
        rows.append({"case": case, **row})
        print(f"{case:42}", ", ".join(f"{name} {value:.4f} s" for name, value in row.items()))
    report = {"rows": rows, "dtype": args.dtype, "threads": torch.get_num_threads()}
    print(json.dumps({**report, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
