import pytest
import torch

from varestorer_core.models.bsq import dequantize, pyramid_tokens, quantize
from varestorer_core.models.sampling import favour_bits, sample_bits
from varestorer_core.pipeline import decode_tiles, encode_pyramid, restore_codes
from varestorer_core.resize import resize_lanczos
from varestorer_core.schedule import get_schedule
from varestorer_core.settings import RestoreSettings
from varestorer_core.tiles.noise import tile_noise
from varestorer_core.tiles.tile_bits import TileBits, TileCodes
from varestorer_core.tiles.tiling import extract_tiles, plan_tiles

SCHEDULE = get_schedule(1.0, "0.06M")


def random_bits(tiles, tokens, d):
    return torch.rand(tiles, tokens, d) < 0.5


@pytest.mark.parametrize("d", [1, 6, 8, 32, 64])
@pytest.mark.parametrize("tokens", [1, 3, 777])
def test_what_goes_in_comes_out(tokens, d):
    bits = random_bits(7, tokens, d)
    kept = TileBits(*bits.shape)
    assert not kept[:].any()
    for start in range(0, 7, 3):
        kept[start : start + 3] = bits[start : start + 3]
    assert kept.shape == tuple(kept[:].shape) == (7, tokens, d)
    assert torch.equal(kept[:], bits)
    assert torch.equal(kept[2:4], bits[2:4])
    assert kept[7:9].shape == (0, tokens, d)


def test_a_tile_set_again_leaves_its_neighbours():
    bits = random_bits(3, 5, 3)  # 15 bits per tile, not a whole number of bytes
    kept = TileBits(*bits.shape)
    kept[:] = bits
    kept[1:2] = ~bits[1:2]
    assert torch.equal(kept[:], torch.stack([bits[0], ~bits[1], bits[2]]))


@pytest.mark.parametrize(
    "bits",
    [
        torch.zeros(1, 5, 3, dtype=torch.bool),
        torch.zeros(2, 5, 4, dtype=torch.bool),
        torch.zeros(2, 5, 3),
    ],
)
def test_what_is_not_bits_of_these_tiles_is_refused(bits):
    with pytest.raises(ValueError, match=r"Expected bits \(2, 5, 3\)"):
        TileBits(4, 5, 3)[1:3] = bits


@pytest.mark.parametrize(
    ("d", "pixel_class", "most"), [(64, "0.25M", 20_200), (32, "0.25M", 10_100)]
)
def test_a_tile_holds_an_eighth_of_a_byte_per_bit(d, pixel_class, most):
    """The bundled and the official model: of 128 and 512 pixels a side, 197 kB and 3.1 MB in float32."""
    tokens = get_schedule(1.0, pixel_class).num_tokens
    assert tokens * d / 8 <= TileBits(1, tokens, d).nbytes <= most
    assert TileBits(9, tokens, d).nbytes == 9 * TileBits(1, tokens, d).nbytes


def test_codes_are_those_of_all_bits_at_once():
    bits = random_bits(5, SCHEDULE.num_tokens, 6)
    kept = TileBits(*bits.shape)
    kept[:] = bits
    codes = TileCodes(kept, SCHEDULE)
    assert len(codes) == 5
    assert torch.equal(codes[:], dequantize(bits, SCHEDULE))
    assert torch.equal(codes[1:3], dequantize(bits[1:3], SCHEDULE))
    assert codes[5:].shape == (0, 6, *SCHEDULE.last_grid)


@torch.inference_mode()
def test_a_restoration_is_what_bits_of_a_byte_and_codes_of_floats_gave(
    make_transformer, make_tokenizer
):
    """The stages written out, with plain tensors in between."""
    transformer, tokenizer = make_transformer(lq_prior=True), make_tokenizer()
    picture, text = torch.rand(3, 45, 96), transformer.encode_text()
    layout = plan_tiles(90, 192, 128, 32)
    tiles = extract_tiles(resize_lanczos(picture, (90, 192)), layout).split(1)
    assert len(tiles) == 2
    lq = [quantize(tokenizer.encode(tile * 2 - 1), SCHEDULE).bits for tile in tiles]
    codes = []
    for bits, (y, x) in zip(lq, layout.positions, strict=True):
        logits = transformer(pyramid_tokens(bits, SCHEDULE), text, SCHEDULE, lq_bits=bits)
        noise = tile_noise(3, SCHEDULE, 6, (y / 128, x / 128))[None]
        codes.append(dequantize(sample_bits(favour_bits(logits, bits, 0.5), noise, 0.8), SCHEDULE))

    settings = RestoreSettings(upscale=2.0, overlap=32, seed=3, detail=0.8, fidelity=0.5)
    pyramid = encode_pyramid([picture], tokenizer.encode, settings, schedule=SCHEDULE, patch_size=8)
    assert torch.equal(pyramid.bits[:], torch.cat(lq))
    assert torch.equal(pyramid.codes[:], torch.cat([dequantize(bits, SCHEDULE) for bits in lq]))
    kept = restore_codes(transformer, pyramid, text, settings)
    assert torch.equal(kept[:], torch.cat(codes))
    (packed,) = decode_tiles(tokenizer.decode, kept, pyramid.geometry, color_match="wavelet")
    # In the layout of the packed ones: a decoder sums channels-last codes in another order.
    together = torch.cat(codes).contiguous()
    (plain,) = decode_tiles(tokenizer.decode, together, pyramid.geometry, color_match="wavelet")
    assert torch.equal(packed, plain)
