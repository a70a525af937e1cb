"""Throughput of the training loader on a folder of large JPEG files.

    python benchmarks/loader.py                            # makes 12-megapixel JPEG files in a temporary folder
    python benchmarks/loader.py --data FOLDER --workers 0,2,8 --crop 512 --degradation official
    python benchmarks/loader.py --step-seconds 0.9         # says whether the loader keeps up with such a step

"full decoding" reads whole pictures with the package's picture reader and crops them in the training process, as
training did before the loader existed. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from varestorer_core.distill.batches import Draw, batch_generator
from varestorer_core.distill.degrade import degrade_batch, parse_mix
from varestorer_core.distill.loader import Drawing, load_batches
from varestorer_core.distill.picture_folder import PictureFolder
from varestorer_core.pictures import read_picture, to_uint8


def make_files(folder, count, width, height):
    """Write JPEG files of smooth noise with fine grain, about as many bytes as photographs of this size."""
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (height // 40, width // 40, 3), np.uint8)
        picture = np.asarray(
            Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        )
        grain = rng.normal(0, 6, (height, width, 1))
        values = np.clip(picture + grain, 0, 255).astype(np.uint8)
        Image.fromarray(values).save(folder / f"{index}.jpg", quality=92)


def full_decoding(source, draw, numbers, seed):
    """Yield batches as training without a loader did."""
    for number in numbers:
        generator = batch_generator(seed, number)
        squares = []
        for _ in range(draw.batch):
            index = int(torch.randint(len(source.files), (1,), generator=generator))
            size, x, y, flip = torch.rand(4, generator=generator).tolist()
            image = Image.fromarray(to_uint8(read_picture(source.files[index]).rgb))
            side = min(image.size)
            side = round(draw.crop * math.exp(size * math.log(side / draw.crop)))
            left, top = x * (image.width - side), y * (image.height - side)
            box = (left, top, left + side, top + side)
            square = image.resize((draw.crop, draw.crop), Image.Resampling.LANCZOS, box=box)
            square = np.asarray(square)
            squares.append(square[:, ::-1] if flip < 0.5 else square)
        clean = np.stack(squares)
        if draw.degradation:
            degrade_batch(clean, draw.degradation, generator)
        yield clean


def timed(batches, batch, warm):
    """Return the seconds per picture, after `warm` warm-up batches."""
    count, started = 0, time.perf_counter()
    for index, _ in enumerate(batches):
        if index + 1 == warm:
            started = time.perf_counter()
        elif index >= warm:
            count += batch
    return (time.perf_counter() - started) / count


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="folder of pictures (default: generated)")
    parser.add_argument("--files", type=int, default=6, help="number of files to generate")
    parser.add_argument("--size", default="4000x3000", help="size of the generated files")
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--batches", type=int, default=8, help="number of timed batches")
    parser.add_argument("--workers", default="0,1,2", help="comma-separated")
    parser.add_argument("--degradation", default="", help="presets; none: only decode and crop")
    parser.add_argument(
        "--step-seconds", type=float, help="time of a training step to compare with"
    )
    return parser.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = args.data
        if folder is None:
            folder = Path(made)
            make_files(folder, args.files, *map(int, args.size.split("x")))
        source = PictureFolder(folder, args.crop)
        mix = parse_mix(args.degradation) if args.degradation else ()
        draw = Draw(args.batch, args.crop, mix)
        numbers = range(args.batches)
        rows = [
            {
                "loader": "full decoding, in the training process",
                "seconds a picture": timed(full_decoding(source, draw, numbers, 0), args.batch, 1),
            }
        ]
        for workers in map(int, args.workers.split(",")):
            # Batches drawn while the workers started are not counted.
            warm = 1 + 2 * workers
            drawing = Drawing(source, (draw,), 0)
            batches = load_batches(drawing, range(args.batches * max(1, workers) + warm), workers)
            seconds = timed(batches, args.batch, warm)
            rows.append({"loader": f"{workers} processes", "seconds a picture": seconds})
    first = rows[0]["seconds a picture"]
    for row in rows:
        row["pictures a second"] = 1 / row["seconds a picture"]
        row["of full decoding"] = first / row["seconds a picture"]
        text = f"{row['loader']}: {row['pictures a second']:.2f} pictures a second, {row['of full decoding']:.1f} times"
        if args.step_seconds:
            row["batches a step"] = args.step_seconds * row["pictures a second"] / args.batch
            text += f"; {row['batches a step']:.2f} batches in the time of a step"
        print(text, flush=True)
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    settings = {key: str(value) for key, value in vars(args).items() if value is not None}
    print(json.dumps({"machine": machine, "settings": settings, "rows": rows}))


if __name__ == "__main__":
    main()
