"""What bfloat16 changes: equal bits per scale against float32, network by network.

    python benchmarks/bf16_bits.py [--model FILE --vae FILE] [PICTURE ...]

Pictures default to three photographs of scikit-image. All are cut to --side pixels and degraded x4 by averaging.
Encoder: the bits that are quantised. Transformer: the bits it predicts, from the same LQ bits. The last line of the
output is one JSON document.
"""

from __future__ import annotations

import argparse
import copy
import json

import torch
import torch.nn.functional as F

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.evaluate.photographs import cut_square, scikit_image_photographs
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import sample_bits
from varestorer_core.pictures import read_picture
from varestorer_core.schedule import get_schedule
from varestorer_core.tiling import extract_tiles, plan_tiles


def agreement(a, b, schedule):
    """Return the share of equal bits (N, L, d) per scale and of all, in per cent."""
    equal = (a == b).float().mean((0, 2))
    scales = [float(equal[start:stop].mean()) for start, stop in schedule.spans]
    return [round(100 * share, 3) for share in (*scales, float(equal.mean()))]


def psnr(a, b):
    """Return the PSNR in dB of tiles in [-1, 1]."""
    return round(float(-10 * torch.log10(((a - b) / 2).square().mean())), 2)


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
    model = load_transformer(*read_checkpoint(args.model, kind="transformer"))
    half = load_transformer(*read_checkpoint(args.model, kind="transformer"), dtype=torch.bfloat16)
    schedule = get_schedule(1.0, model.config.pixel_class)
    tile, _ = schedule.pixel_size(wide.config.patch_size)
    side = max(args.side, tile)
    tiles = []
    for path in args.pictures or scikit_image_photographs()[0][:3]:
        picture = cut_square(read_picture(path).rgb, side)[None]
        small = F.interpolate(picture, scale_factor=0.25, mode="area")
        picture = F.interpolate(small, (side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)
        tiles.append(extract_tiles(picture, plan_tiles(side, side, tile, 0)) * 2 - 1)
    columns = {"encoder": [], "transformer": [], "all": []}
    pictures = {"decoder": [], "all": []}
    for image in torch.cat(tiles).split(1):
        lq = quantize(wide.encode(image), schedule).bits
        lq_half = quantize(narrow.encode(image.bfloat16()).float(), schedule).bits

        def predicted(network, bits):
            tokens = pyramid_tokens(bits, schedule)
            return sample_bits(network(tokens, network.encode_text(), schedule, lq_bits=bits))

        full, changed = predicted(model, lq), predicted(half, lq_half)
        columns["encoder"].append((lq, lq_half))
        columns["transformer"].append((full, predicted(half, lq)))
        columns["all"].append((full, changed))
        codes = dequantize(full, schedule)
        expected = wide.decode(codes)
        pictures["decoder"].append((expected, narrow.decode(codes).float()))
        pictures["all"].append((expected, narrow.decode(dequantize(changed, schedule)).float()))
    report = {"tiles": len(columns["all"])}
    for name, pairs in columns.items():
        first, second = (torch.cat(part) for part in zip(*pairs, strict=True))
        report[f"{name}_equal_bits"] = agreement(first, second, schedule)
        print(f"{name}: equal bits per scale, then all, %: {report[f'{name}_equal_bits']}")
    for name, pairs in pictures.items():
        first, second = (torch.cat(part) for part in zip(*pairs, strict=True))
        report[f"{name}_psnr"] = psnr(first, second)
        print(f"{name}: {report[f'{name}_psnr']} dB")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
