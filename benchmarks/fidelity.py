"""Similarity of a restoration to its input by `fidelity`: PSNR against the input, on photographs.

    python benchmarks/fidelity.py

The photographs of scikit-image are degraded and restored like in `varestorer evaluate --scikit-image`, but without
colour matching, which would also move the result towards the input. The input is the low-quality picture, enlarged by
the Lanczos filter; `fidelity` moves the result towards its reconstruction by the tokenizer, whose encoder may clean it.
Prints the table of docs/evaluation.md; the last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from math import isfinite
from statistics import mean

import torch

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.evaluate import make_pair, scikit_image_photographs
from varestorer_core.metrics import psnr
from varestorer_core.pipeline import decode_tiles, encode_pyramid, restore_codes
from varestorer_core.schedule import get_schedule
from varestorer_core.settings import RestoreSettings

FIDELITIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
DETAILS = (0.0, 1.0)


def distances(transformer, tokenizer, pair, args):
    """Return PSNR against the reconstructed input, the input and the original, by detail and fidelity."""
    pyramid = encode_pyramid(
        [pair.lq],
        tokenizer.encode,
        RestoreSettings(upscale=float(args.scale)),
        schedule=get_schedule(1.0, transformer.config.pixel_class),
        patch_size=tokenizer.config.patch_size,
    )
    (source,) = pyramid.sources
    (read,) = decode_tiles(tokenizer.decode, pyramid.codes, pyramid.geometry)
    text = transformer.encode_text()
    found = {}
    for detail in DETAILS:
        for fidelity in FIDELITIES:
            codes = restore_codes(
                transformer,
                pyramid,
                text,
                RestoreSettings(seed=args.seed, detail=detail, fidelity=fidelity),
            )
            (picture,) = decode_tiles(tokenizer.decode, codes, pyramid.geometry)
            found[detail, fidelity] = (
                float(psnr(picture, read)),
                float(psnr(picture, source)),
                float(psnr(picture, pair.original)),
            )
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=str(asset_path(TINY_TRANSFORMER)))
    parser.add_argument("--vae", default=str(asset_path(TINY_TOKENIZER)))
    parser.add_argument("--preset", default="x4", help="degradation (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=4, help="enlargement (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of the photographs")
    parser.add_argument("--seed", type=int, default=0, help="seed of degradation and sampling")
    args = parser.parse_args()
    transformer = load_transformer(*read_checkpoint(args.model), name=args.model)
    tokenizer = load_tokenizer(*read_checkpoint(args.vae), name=args.vae)
    paths, _ = scikit_image_photographs()
    settings = {"preset": args.preset, "scale": args.scale, "size": args.size, "seed": args.seed}
    measured = {}
    for index, path in enumerate(paths):
        pair = make_pair(path, index, **settings)
        measured[path.name] = distances(transformer, tokenizer, pair, args)

    columns = list(measured.values())
    report = {"settings": settings, "photographs": list(measured), "details": []}
    print("| PSNR, dB | " + " | ".join(f"{f:g}" for f in FIDELITIES) + " | photographs that rise |")
    print("| --- " * (len(FIDELITIES) + 2) + "|")
    for detail in DETAILS:
        rising = sum(
            all(c[detail, a][0] <= c[detail, b][0] for a, b in pairwise(FIDELITIES))
            for c in columns
        )
        rows = [[mean(c[detail, f][i] for c in columns) for f in FIDELITIES] for i in range(3)]
        for name, row in zip(("input as read", "input", "original"), rows, strict=True):
            counted = f"{rising} of {len(columns)}" if row is rows[0] else ""
            values = " | ".join(f"{value:.2f}" if isfinite(value) else "equal" for value in row)
            print(f"| `detail` {detail:g}, against the {name} | {values} | {counted} |")
        report["details"].append(
            {
                "detail": detail,
                "fidelity": FIDELITIES,
                "psnr_against_input_as_read": [
                    round(v, 3) if isfinite(v) else None for v in rows[0]
                ],
                "psnr_against_input": [round(v, 3) for v in rows[1]],
                "psnr_against_original": [round(v, 3) for v in rows[2]],
                "photographs_that_rise": rising,
            }
        )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
