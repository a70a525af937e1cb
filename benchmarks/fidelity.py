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
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from statistics import mean

import torch

from varestorer_core import load_restorer
from varestorer_core.evaluate import make_pair, scikit_image_photographs
from varestorer_core.metrics import psnr
from varestorer_core.settings import RestoreSettings

FIDELITIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
DETAILS = (0.0, 1.0)


def distances(stages, pair, args):
    """Return PSNR against the reconstructed input, the input and the original, by detail and fidelity."""
    plain = RestoreSettings(upscale=float(args.scale), color_match="none", seed=args.seed)
    pyramid = stages.encode([pair.lq], plain)
    (source,) = pyramid.sources
    (read,) = stages.decode(pyramid.codes, pyramid.geometry, plain)
    found = {}
    for detail in DETAILS:
        for fidelity in FIDELITIES:
            settings = replace(plain, detail=detail, fidelity=fidelity)
            codes = stages.restore(pyramid, settings)
            (picture,) = stages.decode(codes, pyramid.geometry, settings)
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
    parser.add_argument("--model", help="transformer (default: the bundled one)")
    parser.add_argument("--vae", help="tokenizer (default: the bundled one)")
    parser.add_argument("--preset", default="x4", help="degradation (default: %(default)s)")
    parser.add_argument("--scale", type=int, default=4, help="enlargement (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of the photographs")
    parser.add_argument("--seed", type=int, default=0, help="seed of degradation and sampling")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    args = parser.parse_args()
    stages = load_restorer(args.model, args.vae, device=args.device, dtype="fp32").stages
    paths, _ = scikit_image_photographs()
    settings = {"preset": args.preset, "scale": args.scale, "size": args.size, "seed": args.seed}
    measured = {}
    for index, path in enumerate(paths):
        pair = make_pair(path, index, **settings)
        measured[path.name] = distances(stages, pair, args)

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
