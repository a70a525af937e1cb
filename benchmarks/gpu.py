"""Measurements of a GPU, in parts of a few minutes.

    python benchmarks/gpu.py --minutes 10 --out FOLDER     # repeat until it reports that all parts are done
    python benchmarks/gpu.py --out FOLDER --size bundled --device cpu    # a rehearsal

Parts: results of the device compared with those of the CPU (features, bits, logits, picture), with convolutions in
TF32 and in float32; one tile at batches 1, 2, 4 and 8, with reserved memory compared with the estimates; pictures;
weights in float8; training; one compiled tile, which takes longest and is last. Each part writes FOLDER/PART.json,
and finished parts are not run again; rows of a part that ended early are in PART.rows.json. Nothing is downloaded:
full-size networks get random weights on the device. Needs PyTorch and this repository, and a CUDA device for real
measurements. Prints a table in Markdown and one JSON document last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from gpu_networks import Bench  # noqa: E402

from varestorer_core.compiling import check_compiling, compiled  # noqa: E402
from varestorer_core.distill.adapters import student_on_teacher  # noqa: E402
from varestorer_core.errors import VARestorerError  # noqa: E402
from varestorer_core.estimates import decoder_bytes, encoder_bytes, transformer_bytes  # noqa: E402
from varestorer_core.loaded import LoadedStages  # noqa: E402
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize  # noqa: E402
from varestorer_core.restorer import Restorer  # noqa: E402
from varestorer_core.schedule import get_schedule  # noqa: E402
from varestorer_core.tiles.batching import is_out_of_memory  # noqa: E402


@torch.inference_mode()
def parity(bench: Bench) -> list[dict]:
    """Compare one tile of the bundled model on the device with the CPU, in float32 and bfloat16."""
    small = Bench(bench.device, "bundled")
    rows = bench.rows("parity")
    before = torch.backends.cudnn.allow_tf32
    for dtype, tf32 in (
        (torch.float32, True),
        (torch.float32, False),
        (torch.bfloat16, True),
        (torch.bfloat16, False),
    ):
        torch.backends.cudnn.allow_tf32 = tf32
        found = []
        for device in (torch.device("cpu"), bench.device):
            model, tokenizer = small.transformer(dtype, device), small.tokenizer(dtype, device)
            schedule = get_schedule(1.0, model.config.pixel_class)
            side = schedule.pixel_size(tokenizer.config.patch_size)[0]
            tile = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
            features = tokenizer.encode(tile.to(device))
            bits = quantize(features, schedule).bits
            # From the CPU's bits, so that each stage is compared on its own.
            given = found[0][1].to(device) if found else bits
            logits = model(
                pyramid_tokens(given, schedule), model.encode_text(), schedule, lq_bits=given
            )
            picture = tokenizer.decode(dequantize(given, schedule)).float()
            found.append([t.cpu() for t in (features, bits, logits, picture)])
        names = ("features", "bits", "logits", "picture")
        for name, (cpu, there) in zip(names, zip(*found, strict=True), strict=True):
            row = {"what": name, "dtype": str(dtype), "convolutions": "TF32" if tf32 else "float32"}
            if cpu.dtype == torch.bool:
                rows.append({**row, "share_that_differs": float((cpu != there).float().mean())})
            else:
                rows.append({**row, "relative_rms": float((cpu - there).norm() / cpu.norm())})
    torch.backends.cudnn.allow_tf32 = before
    return rows


def tiles(bench: Bench) -> list[dict]:
    """Time the three networks at growing batches, the encoder also in float32."""
    rows = _tiles(bench, "tiles", None, (1,) if bench.rehearsal else (1, 2, 4, 8))
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        rows += _tiles(bench, "tiles", None, (1,), stages=("encode",), how="eager, no TF32")
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return rows


def compiled_tiles(bench: Bench) -> list[dict]:
    """Time the three compiled networks after a run that compiles, whose time is recorded."""
    check_compiling(bench.device)
    options = {"backend": "eager"} if bench.rehearsal else {"dynamic": False}
    return _tiles(bench, "compiled", options, (1,) if bench.rehearsal else (1, 4), how="compiled")


@torch.inference_mode()
def _tiles(
    bench: Bench,
    part: str,
    options: dict | None,
    batches: tuple[int, ...],
    stages: tuple[str, ...] = ("transformer", "decode", "encode"),
    how: str = "eager",
) -> list[dict]:
    dtype = torch.bfloat16
    model, tokenizer = bench.transformer(dtype), bench.tokenizer(dtype)
    schedule, text = get_schedule(1.0, model.config.pixel_class), model.encode_text()
    side = schedule.pixel_size(tokenizer.config.patch_size)[0]
    pixels, d = side * side, model.config.codebook_dim
    estimates = {
        "encode": encoder_bytes(tokenizer.config, pixels, gpu=not bench.rehearsal),
        "transformer": transformer_bytes(model.config, dtype, schedule.num_tokens_long),
        "decode": decoder_bytes(tokenizer.config, pixels, dtype, gpu=not bench.rehearsal),
    }
    rows = bench.rows(f"{part}.{how}")
    for batch in batches:
        images = torch.rand(batch, 3, side, side, device=bench.device) * 2 - 1
        bits = torch.rand(batch, schedule.num_tokens, d, device=bench.device) > 0.5
        tokens, codes = pyramid_tokens(bits, schedule), dequantize(bits, schedule)
        works = {
            "encode": lambda images=images: tokenizer.encode(images),
            "transformer": lambda tokens=tokens, bits=bits: model(
                tokens, text, schedule, lq_bits=bits
            ),
            "decode": lambda codes=codes: tokenizer.decode(codes),
        }
        for stage in stages:
            bench.reserved()
            row = {"stage": stage, "how": how, "batch": batch}
            try:
                with compiled(model, options), compiled(tokenizer, options):
                    begun = time.perf_counter()
                    seconds = bench.seconds(works[stage])
                    row["seconds_per_tile"] = seconds / batch
                    row["seconds_with_warm_up"] = time.perf_counter() - begun
                row["reserved"] = bench.reserved()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                row["out_of_memory"] = True
            rows.append({**row, "estimated": estimates[stage] * batch})
    return rows


def pictures(bench: Bench) -> list[dict]:
    """Time whole restorations."""
    model, tokenizer = bench.transformer(torch.bfloat16), bench.tokenizer(torch.bfloat16)
    restorer = Restorer(LoadedStages(model, tokenizer, device=bench.device))
    rows = bench.rows("pictures")
    for width, height in (
        [(128, 128)] if bench.rehearsal else [(512, 512), (1800, 1200), (4096, 4096)]
    ):
        picture = torch.rand(3, height // 2, width // 2)
        seconds = bench.seconds(lambda picture=picture: restorer.restore(picture, upscale=2.0), 1)
        rows.append(
            {"width": width, "height": height, "seconds": seconds, "reserved": bench.reserved()}
        )
    return rows


@torch.inference_mode()
def float8(bench: Bench) -> list[dict]:
    """Time one tile with weights in float8 and in bfloat16."""
    rows = bench.rows("float8")
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        model = bench.transformer(dtype)
        schedule, text = get_schedule(1.0, model.config.pixel_class), model.encode_text()
        bits = torch.zeros(
            1, schedule.num_tokens, model.config.codebook_dim, dtype=torch.bool, device=bench.device
        )
        tokens = pyramid_tokens(bits, schedule)
        work = partial(model, tokens, text, schedule, lq_bits=bits)
        seconds = bench.seconds(work)
        rows.append({"weights": str(dtype), "seconds": seconds, "reserved": bench.reserved()})
        del model, work
    return rows


def training(bench: Bench) -> list[dict]:
    """Time steps of a student with adapters of rank 32 on a bfloat16 base: forward, backward, AdamW."""
    weights = torch.float32 if bench.rehearsal else torch.bfloat16
    teacher = bench.transformer(weights)
    teacher.config = replace(teacher.config, lq_prior=False)  # bases have none
    student = student_on_teacher(teacher, 32)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters)
    schedule, d = get_schedule(1.0, teacher.config.pixel_class), teacher.config.codebook_dim
    rows = bench.rows("training")
    for batch in (1,) if bench.rehearsal else (1, 2, 4):
        bits = torch.rand(batch, schedule.num_tokens, d, device=bench.device) > 0.5
        tokens = pyramid_tokens(bits, schedule)

        def step(tokens=tokens, bits=bits) -> None:
            logits = student(tokens, student.encode_text(), schedule)
            odds = logits[..., 1] - logits[..., 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, bits.float())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        row = {"batch": batch}
        try:
            row["tiles_per_second"] = batch / bench.seconds(step)
            row["reserved"] = bench.reserved()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            row["out_of_memory"] = True
        rows.append(row)
    return rows


PARTS = {
    "parity": parity,
    "tiles": tiles,
    "pictures": pictures,
    "float8": float8,
    "training": training,
    "compiled": compiled_tiles,
}


def main() -> int:
    """Run unfinished parts while there is time, and print all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="start no part after this time")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=("full", "bundled"), default="full")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"--only: parts are {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    device = torch.device(args.device)
    bench = Bench(device, args.size, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for name in wanted:
        path = args.out / f"{name}.json"
        if path.exists() or time.monotonic() - begun > 60 * args.minutes:
            continue
        print(f"{name} ... ({time.monotonic() - begun:.0f} s)", flush=True)
        try:
            result = {"rows": PARTS[name](bench)}
        except (VARestorerError, RuntimeError) as error:
            # Not kept as done: the next call tries again.
            traceback.print_exc()
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            continue
        result.update(device=_name(device), torch=torch.__version__, size=args.size)
        unfinished = path.with_suffix(".partial")
        unfinished.write_text(json.dumps(result, indent=1))
        unfinished.replace(path)
    done = {n: json.loads(p.read_text()) for n in PARTS if (p := args.out / f"{n}.json").exists()}
    for name, result in done.items():
        _print_table(name, result)
    missing = [name for name in wanted if name not in done]
    print(f"Still to do: {', '.join(missing)}. Run again." if missing else "All parts are done.")
    print(json.dumps(done))
    return 0


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (rehearsal)"


def _print_table(name: str, result: dict) -> None:
    print(
        f"\n### {name}: {result['device']}, PyTorch {result['torch']}, {result['size']} networks\n"
    )
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for row in result["rows"]:
        cells = (row.get(column, "") for column in columns)
        print(f"| {' | '.join(f'{c:.4g}' if isinstance(c, float) else str(c) for c in cells)} |")


if __name__ == "__main__":
    sys.exit(main())
