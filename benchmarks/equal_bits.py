"""Effect of narrower dtypes: equal bits per scale compared with float32, network by network, and PSNR.

    python benchmarks/equal_bits.py [--model FILE --vae FILE] [PICTURE ...]

Pictures default to three photographs of scikit-image. All are cropped to --side pixels and reduced x4 by averaging.
Encoder: the quantised bits. Transformer: the predicted bits, from the same LQ bits, with its matrices in bfloat16, or
stored in float8 and cast to bfloat16 or float32 for multiplication. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import copy
import json

import torch
import torch.nn.functional as F

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import CastLayers, load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.evaluate.photographs import cut_square, scikit_image_photographs
from varestorer_core.metrics import decibels
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import sample_bits
from varestorer_core.pictures import read_picture
from varestorer_core.schedule import get_schedule
from varestorer_core.tiles.tiling import extract_tiles, plan_tiles

# Dtypes in which matrices are stored and multiplied, by name.
TRANSFORMERS = {
    "transformer, bfloat16": (torch.bfloat16, torch.bfloat16),
    "transformer, float8_e4m3fn, cast to float32": (torch.float8_e4m3fn, torch.float32),
    "transformer, float8_e4m3fn, cast to bfloat16": (torch.float8_e4m3fn, torch.bfloat16),
    "transformer, float8_e5m2, cast to bfloat16": (torch.float8_e5m2, torch.bfloat16),
}


def agreement(a, b, schedule):
    """Return the percentage of equal bits (N, L, d) per scale and in total."""
    equal = (a == b).float().mean((0, 2))
    scales = [float(equal[start:stop].mean()) for start, stop in schedule.spans]
    return [round(100 * share, 3) for share in (*scales, float(equal.mean()))]


def psnr(a, b):
    """Return the PSNR in dB of tiles in [-1, 1]."""
    return round(decibels(float((a - b).square().mean()), data_range=2.0), 2)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--model", default=str(asset_path(TINY_TRANSFORMER)))
    parser.add_argument("--vae", default=str(asset_path(TINY_TOKENIZER)))
    parser.add_argument("--side", type=int, default=256)
    args = parser.parse_args()
    wide = load_tokenizer(*read_checkpoint(args.vae, kind="tokenizer"))
    narrow = copy.deepcopy(wide).bfloat16()
    narrow.decoder_dtype = torch.bfloat16
    checkpoint = read_checkpoint(args.model, kind="transformer")
    model = load_transformer(*checkpoint)
    narrower = {
        name: load_transformer(
            *checkpoint, dtype=dtype, compute_dtype=compute, operations=CastLayers
        )
        for name, (dtype, compute) in TRANSFORMERS.items()
    }
    half = narrower["transformer, bfloat16"]
    schedule = get_schedule(1.0, model.config.pixel_class)
    tile, _ = schedule.pixel_size(wide.config.patch_size)
    side = max(args.side, tile)
    tiles, originals = [], []
    for path in args.pictures or scikit_image_photographs()[0][:3]:
        original = cut_square(read_picture(path).rgb, side)
        small = F.interpolate(original[None], scale_factor=0.25, mode="area")
        picture = F.interpolate(small, (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
        layout = plan_tiles(side, side, tile, 0)
        tiles.append(extract_tiles(picture, layout) * 2 - 1)
        originals.append(extract_tiles(original, layout) * 2 - 1)
    columns = {name: [] for name in ("encoder", *TRANSFORMERS, "all")}
    pictures = {name: [] for name in ("decoder", *TRANSFORMERS, "all")}
    against = {name: [] for name in ("float32", *TRANSFORMERS)}
    for image, original in zip(
        torch.cat(tiles).split(1), torch.cat(originals).split(1), strict=True
    ):
        lq = quantize(wide.encode(image), schedule).bits
        lq_half = quantize(narrow.encode(image.bfloat16()).float(), schedule).bits

        def predicted(network, bits):
            tokens = pyramid_tokens(bits, schedule)
            return sample_bits(network(tokens, network.encode_text(), schedule, lq_bits=bits))

        full, changed = predicted(model, lq), predicted(half, lq_half)
        columns["encoder"].append((lq, lq_half))
        columns["all"].append((full, changed))
        codes = dequantize(full, schedule)
        expected = wide.decode(codes)
        against["float32"].append((expected, original))
        for name, network in narrower.items():
            bits = predicted(network, lq)
            columns[name].append((full, bits))
            decoded = wide.decode(dequantize(bits, schedule))
            pictures[name].append((expected, decoded))
            against[name].append((decoded, original))
        pictures["decoder"].append((expected, narrow.decode(codes).float()))
        pictures["all"].append((expected, narrow.decode(dequantize(changed, schedule)).float()))
    report = {"tiles": len(columns["all"]), "equal_bits": {}, "psnr": {}, "psnr_to_original": {}}
    for name, pairs in columns.items():
        first, second = (torch.cat(part) for part in zip(*pairs, strict=True))
        report["equal_bits"][name] = agreement(first, second, schedule)
        print(f"{name}: equal bits per scale, then all, %: {report['equal_bits'][name]}")
    for key, compared in (("psnr", pictures), ("psnr_to_original", against)):
        for name, pairs in compared.items():
            first, second = (torch.cat(part) for part in zip(*pairs, strict=True))
            report[key][name] = psnr(first, second)
            print(f"{name}: {key} {report[key][name]} dB")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
