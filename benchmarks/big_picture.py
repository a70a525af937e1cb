"""Host memory and processor time of everything but the networks, for a large picture.

    python benchmarks/big_picture.py --side 8192

The networks are replaced by stubs that return constants, with the tiles and bits of the official model or the bundled
one. The remaining work is the pipeline's own: resizing, cropping, quantising, code sums, blending, colour matching, and
writing the file. Peaks are resident memory in addition to the loaded program's, as multiples of the result in float32.
The last line of the output is one JSON document. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from resident import peak_bytes, reset_peak, resident_bytes

from varestorer_core.color import COLOR_MATCHES
from varestorer_core.loaded import LoadedStages
from varestorer_core.pictures import write_picture
from varestorer_core.restorer import Restorer

LIMIT = 4.0
UPSCALE = 4


class StandInTransformer:
    """Returns the same logits for every bit."""

    def __init__(self, codebook_dim):
        self.config = SimpleNamespace(codebook_dim=codebook_dim, pixel_class="0.25M")

    def encode_text(self):
        return None

    def __call__(self, *_, lq_bits):
        return torch.zeros(*lq_bits.shape, 2)


class StandInTokenizer:
    """Returns grey tiles, and features of zero."""

    def __init__(self, codebook_dim, patch_size):
        self.codebook_dim = codebook_dim
        self.config = SimpleNamespace(patch_size=patch_size)

    def encode(self, tiles):
        size = (side // self.config.patch_size for side in tiles.shape[-2:])
        return torch.zeros(len(tiles), self.codebook_dim, *size)

    def decode(self, codes):
        size = (side * self.config.patch_size for side in codes.shape[-2:])
        return torch.zeros(len(codes), 3, *size)


GEOMETRIES = {"official": (32, 16), "tiny": (64, 4)}
"""(bits per token, pixels per token) by name, at 32 x 32 tokens per tile: tiles of 512 and 128 pixels."""


def watched(name, output_bytes, work):
    """Run `work` and return its result and record."""
    before, started = resident_bytes(), time.process_time()
    reset_peak()
    result = work()
    grown = peak_bytes() - before
    record = {
        "peak_bytes": grown,
        "peak_by_output": round(grown / output_bytes, 2),
        "seconds": round(time.process_time() - started, 2),
    }
    print(
        f"{name:20} {grown / 1e6:8.0f} MB, {record['peak_by_output']} outputs, {record['seconds']} s"
    )
    return result, record


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--side", type=int, default=8192, help="side of the result, in pixels")
    parser.add_argument("--only", default=",".join(GEOMETRIES), help="of official, tiny")
    args = parser.parse_args(argv)
    output = 3 * args.side**2 * 4
    picture = torch.rand(3, args.side // UPSCALE, args.side // UPSCALE)
    report = {"side": args.side, "output_bytes": output, "limit": LIMIT, "cases": {}}
    restored = None
    for geometry in args.only.split(","):
        bits, patch = GEOMETRIES[geometry]
        restorer = Restorer(LoadedStages(StandInTransformer(bits), StandInTokenizer(bits, patch)))
        # A first small picture, so that one-time initialisation is not counted.
        restorer.restore([picture[:, :64, :64]], upscale=UPSCALE, overlap=4 * patch)
        for method in COLOR_MATCHES if geometry == "official" else ("wavelet",):
            restored = None
            (restored,), record = watched(
                f"{geometry} {method}",
                output,
                lambda r=restorer, m=method, p=patch: r.restore(
                    [picture], upscale=UPSCALE, overlap=4 * p, color_match=m
                ),
            )
            report["cases"][f"{geometry} {method}"] = record
    with tempfile.TemporaryDirectory() as folder:
        for depth in (8, 16):
            target = Path(folder) / "restored.png"
            _, record = watched(
                f"png {depth} bits",
                output,
                lambda d=depth, t=target: write_picture(t, restored, bit_depth=d),
            )
            # In addition to the picture itself.
            record["with_picture_by_output"] = round(record["peak_by_output"] + 1, 2)
            report["cases"][f"png {depth} bits"] = record
    print(json.dumps(report))
    return int(any(r["peak_by_output"] > LIMIT for r in report["cases"].values()))


if __name__ == "__main__":
    sys.exit(main())
