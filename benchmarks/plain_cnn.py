"""A convolutional restorer as a baseline, trained on the same pictures for the same time, without tokens.

    python benchmarks/plain_cnn.py train --squares RUN/squares.npy --minutes 480 --out cnn
    python benchmarks/plain_cnn.py evaluate test/kodak test/cid22 test/clic --preset social --scale 2 --out cnn

Ten residual blocks of width 64 at half resolution, 0.75 million parameters, trained with the L1 loss on the squares
of a run (`varestorer distill --squares`) with the same degradations. `train` continues an interrupted training: on a
CPU, minutes are those of its own processor time, on a GPU of the clock, over all its pieces. `evaluate` measures it
as `varestorer evaluate --whole --size 512` measures a model, for `evaluation_table.py`. The last line of the output
is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from varestorer_core.cli.finding import collect_pictures
from varestorer_core.distill.batches import Draw
from varestorer_core.distill.degrade import parse_mix
from varestorer_core.distill.loader import Drawing, load_batches
from varestorer_core.distill.sources import Squares
from varestorer_core.evaluate import make_pair, mean_scores, score
from varestorer_core.resize import enlarge_bicubic, resize_lanczos


class PlainCNN(nn.Module):
    """Adds a correction to pictures (B, 3, H, W) with even sides."""

    def __init__(self, width: int = 64, blocks: int = 10):
        super().__init__()
        self.first = nn.Conv2d(12, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Conv2d(width, 12, 3, padding=1)
        # Initially the identity.
        for conv in (self.last, *(block[2] for block in self.blocks)):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(F.pixel_unshuffle(pictures, 2)))
        for block in self.blocks:
            x = x + block(x)
        return pictures + F.pixel_shuffle(self.last(x), 2)


def train(args: argparse.Namespace) -> dict:
    """Train until the processor time is used up, and return a summary."""
    squares = Squares(np.load(args.squares, mmap_mode="r"))
    draw = Draw(args.batch, 128, parse_mix(args.degradation))
    torch.manual_seed(args.seed)
    network = PlainCNN().to(args.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.99))
    state, step, used = args.out / "state.pt", 0, 0.0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
        step, used = kept["step"], kept["seconds"]
    args.out.mkdir(parents=True, exist_ok=True)
    clock = time.process_time if args.device == "cpu" else time.monotonic
    limit, begun, loss = 60 * args.minutes, clock() - used, torch.zeros(())
    drawing = Drawing(squares, (draw,), args.seed)
    batches = load_batches(drawing, range(step, 10**7), args.workers, args.device)
    while (seconds := clock() - begun) < limit and step != args.steps:
        rate = 1e-3 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * seconds / limit)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = next(batches)
        clean, lq = (batch[name].float() / 255 for name in ("clean", "lq"))
        loss = (network(lq) - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % args.save_every == 0:
            _save(state, network, optimizer, step, clock() - begun)
            print(f"step {step}, {seconds:.0f} s, L1 {loss.item():.4f}", flush=True)
    batches.close()
    used = clock() - begun
    _save(state, network, optimizer, step, used)
    return {"steps": step, "seconds": round(used, 1), "loss": loss.item(), "device": args.device}


def _save(path, network, optimizer, step, seconds):
    partial = path.with_suffix(".partial")
    parts = {"network": network, "optimizer": optimizer}
    kept = {name: part.state_dict() for name, part in parts.items()}
    kept |= {"step": step, "seconds": seconds}
    torch.save(kept, partial)
    partial.replace(path)


@torch.inference_mode()
def evaluate(args: argparse.Namespace) -> dict:
    """Evaluate the network and the enlargements on photographs."""
    network = PlainCNN().eval().to(memory_format=torch.channels_last)
    state = torch.load(args.out / "state.pt", weights_only=True, map_location="cpu")
    network.load_state_dict(state["network"])
    sources, _ = collect_pictures(args.photographs)
    settings = {"preset": args.preset, "scale": args.scale, "size": args.size, "seed": args.seed}
    settings["whole"] = True
    pictures = {}
    for index, source in enumerate(sources):
        pair = make_pair(source, index, **settings)
        size = (pair.original.shape[-2], pair.original.shape[-1])
        lanczos = resize_lanczos(pair.lq, size)
        results = {
            "bicubic": enlarge_bicubic(pair.lq, size),
            "lanczos": lanczos,
            "restored": network(lanczos[None])[0].clamp(0, 1),
        }
        pictures[source.name] = {
            name: score(picture, pair.original) for name, picture in results.items()
        }
    names = ("bicubic", "lanczos", "restored")
    means = {name: mean_scores([scores[name] for scores in pictures.values()]) for name in names}
    for name, mean in means.items():
        print(f"{name:10} {mean.psnr:.3f} dB, SSIM {mean.ssim:.4f}, GMSD {mean.gmsd:.4f}")
    return {
        **settings,
        "mean": {name: mean.as_json() for name, mean in means.items()},
        "pictures": {
            picture: {name: scores[name].as_json() for name in names}
            for picture, scores in pictures.items()
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument(
        "--squares", type=Path, required=True, help=".npy file of training squares"
    )
    training.add_argument("--minutes", type=float, required=True, help="total training time")
    training.add_argument("--degradation", default="mild@2,social@2")
    training.add_argument("--batch", type=int, default=8)
    training.add_argument("--steps", type=int, help="maximum number of steps")
    training.add_argument("--save-every", type=int, default=200)
    training.add_argument("--device", default="cpu")
    training.add_argument("--workers", type=int, default=0, help="processes that draw pictures")
    training.set_defaults(run=train)
    measuring = commands.add_parser("evaluate")
    measuring.add_argument("photographs", nargs="+", help="files or folders")
    measuring.add_argument("--preset", default="social")
    measuring.add_argument("--scale", type=int, default=2)
    measuring.add_argument("--size", type=int, default=512)
    measuring.set_defaults(run=evaluate)
    for command in (training, measuring):
        command.add_argument("--out", type=Path, required=True, help="folder of the training")
        command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
