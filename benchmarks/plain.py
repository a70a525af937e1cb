"""The plain way, as the official script goes about it, to compare with.

Tile after tile through all networks, adapters apart from the weights, prompt work repeated for each tile,
layers, convolutions and attention as PyTorch has them, a ring of padding round the picture, 3/4 of a tile
from one to the next, blending in 8 bits. The bundled tiles are smaller, so ring and overlap are a quarter of
the tile: 128 of 512 pixels.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch.nn.functional as F

from varestorer_core.models import autoencoder, onednn, resampling, rows, strips
from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import sample_bits
from varestorer_core.tiles.official_tiling import restore_official, tile_positions, to_8bit


def plain_attention(q, k, v, mask=None):
    """Return attention by PyTorch's kernel."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@contextmanager
def plain_layers():
    """Do without what the core does faster on CPUs: see `onednn`, `rows`, `strips`, `winograd` and `resampling`."""
    never = mock.Mock(return_value=False)
    plain = (
        (onednn, "_is_sound", never),
        (rows, "_in_blocks", lambda function, tensors, *_: function(*tensors)),
        (strips, "pays", never),
        (strips, "pays_in_strips", never),
        (autoencoder, "pays_in_strips", never),
        (resampling, "pays_in_strips", never),
        (resampling, "sums_taps", never),
    )
    with ExitStack() as stack:
        for module, name, value in plain:
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def plain_tile(networks, device, stages):
    """Return the function that restores one tile (T, T, 3) of 8 bits."""
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
    """Restore a picture (H, W, 3) of 8 bits at its own size."""
    tile = networks.tile
    work = plain_tile(networks, device, stages)
    whole = stages.timed("all", restore_official)
    result = whole(picture, 1.0, work, tiled=True, tile=tile, overlap=tile // 4)
    stages.seconds["around"] = stages.seconds["all"]
    stages.wall["around"] = stages.wall["all"]
    stages.take_away("around", "encode", "prompt", "transformer", "decode")
    return result


def plain_tile_count(networks, height, width):
    """Return how many tiles the plain way takes for a picture."""
    tile, ring = networks.tile, networks.tile // 4
    sides = [len(tile_positions(side + 2 * ring, tile, ring)) for side in (height, width)]
    return sides[0] * sides[1]
