"""A reference implementation for comparison, which works like the official script.

Each tile passes through all networks before the next, with separate adapters and the prompt encoded again for each
tile. Layers, convolutions and attention are PyTorch's; a ring of padding surrounds the picture, the stride is 3/4 of a
tile, and blending is in 8 bits. Ring and overlap are a quarter of the tile, 128 of 512 pixels, also for the smaller
bundled tiles.
"""

from __future__ import annotations

import os
from unittest import mock

import torch

from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import sample_bits
from varestorer_core.tiles.official_tiling import restore_official, tile_positions, to_8bit


def plain_layers():
    """Return the context in which the networks run without the CPU kernels."""
    return mock.patch.dict(os.environ, VARESTORER_CPU_KERNELS="off")


def plain_tile(networks, device, stages):
    """Return a function that restores one 8-bit tile (T, T, 3)."""
    model, tokenizer, schedule = networks.transformer, networks.tokenizer, networks.schedule

    @plain_layers()
    def restore(picture):
        image = torch.from_numpy(picture.copy()).movedim(-1, 0)[None].to(device).float() / 127.5 - 1
        features = stages.timed("encode", tokenizer.encode)(image)
        bits = quantize(features.float(), schedule).bits
        text = stages.timed("prompt", model.encode_text)()
        tokens = pyramid_tokens(bits, schedule)
        logits = stages.timed("transformer", model)(tokens, text, schedule, lq_bits=bits)
        codes = dequantize(sample_bits(logits.float()), schedule)
        tile = stages.timed("decode", tokenizer.decode)(codes)
        return to_8bit(tile[0].float().movedim(0, -1).cpu().numpy())

    return restore


@torch.inference_mode()
def restore_plainly(networks, picture, device, stages):
    """Restore an 8-bit picture (H, W, 3) at its own size."""
    tile = networks.tile
    work = plain_tile(networks, device, stages)
    whole = stages.timed("all", restore_official)
    result = whole(picture, 1.0, work, tiled=True, tile=tile, overlap=tile // 4)
    stages.seconds["around"] = stages.seconds["all"]
    stages.wall["around"] = stages.wall["all"]
    stages.take_away("around", "encode", "prompt", "transformer", "decode")
    return result


def plain_tile_count(networks, height, width):
    """Return the number of tiles of the reference implementation for a picture."""
    tile, ring = networks.tile, networks.tile // 4
    sides = [len(tile_positions(side + 2 * ring, tile, ring)) for side in (height, width)]
    return sides[0] * sides[1]
