"""Reuse of the memory of feature maps within a pass."""

import pytest
import torch

from varestorer_core.config import TokenizerConfig
from varestorer_core.cpu import accelerate, strips
from varestorer_core.cpu.maps import empty_feature_map, feature_map_pool, keep_feature_maps, release
from varestorer_core.models.tokenizer import VisualTokenizer

LIKE = torch.zeros(1, 4, 2, 2)


@torch.no_grad()
def test_a_map_has_the_memory_of_the_smallest_that_fits_and_is_done_with():
    with feature_map_pool(LIKE):
        large, middle, small = (torch.zeros(1, 4, side, side) for side in (9, 6, 3))
        for x in (large, middle, small):
            release(x)
        first, second, third = (empty_feature_map(LIKE, 4, 4, 4) for _ in range(3))
    assert first.shape == (1, 4, 4, 4)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert first.data_ptr() == middle.data_ptr()
    assert second.data_ptr() == large.data_ptr()
    assert third.data_ptr() not in {t.data_ptr() for t in (large, middle, small)}


@torch.no_grad()
def test_a_part_of_a_map_gives_all_of_its_memory():
    with feature_map_pool(LIKE):
        whole = torch.zeros(1, 8, 8, 8)
        release(whole[:, :2])
        again = empty_feature_map(
            LIKE.bfloat16(), 16, 8, 8
        )  # twice as many elements of half the size
    assert again.dtype == torch.bfloat16
    assert again.data_ptr() == whole.data_ptr()


@torch.no_grad()
def test_a_pass_leaves_its_largest_maps_to_the_next_one():
    with keep_feature_maps():
        with feature_map_pool(LIKE):
            left = [torch.zeros(1, 4, side, side) for side in (3, 9, 6, 8, 2)]
            for x in left:
                release(x)
        with feature_map_pool(LIKE):
            found = {empty_feature_map(LIKE, 4, side, side).data_ptr() for side in (9, 8, 6)}
            assert found == {left[1].data_ptr(), left[2].data_ptr(), left[3].data_ptr()}
            small = empty_feature_map(LIKE, 4, 2, 2)
            assert small.data_ptr() not in {x.data_ptr() for x in left}
    with feature_map_pool(LIKE):
        assert empty_feature_map(LIKE, 4, 6, 6).data_ptr() not in {x.data_ptr() for x in left}


@torch.no_grad()
def test_maps_of_other_devices_have_nothing_to_do_with_it():
    with keep_feature_maps():
        x = torch.zeros(1, 4, 4, 4, device="meta")
        release(x)
        release(torch.zeros(1, 4, 9, 9))
        assert empty_feature_map(x, 4, 4, 4).device.type == "meta"


def test_every_map_is_new_outside_of_a_pass_and_where_gradients_are_recorded():
    x = torch.zeros(1, 4, 4, 4)
    release(x)
    assert empty_feature_map(x, 4, 4, 4).data_ptr() != x.data_ptr()
    with feature_map_pool(x):
        release(x)
        assert empty_feature_map(x, 4, 4, 4).data_ptr() != x.data_ptr()


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_passes_give_the_same_as_with_new_memory(dtype, monkeypatch):
    monkeypatch.setattr(strips, "_STRIP", 300)
    config = TokenizerConfig(
        codebook_dim=4,
        base_channels=8,
        channel_multipliers=(1, 2, 2),
        num_res_blocks=2,
        norm_groups=4,
    )
    torch.manual_seed(0)
    tokenizer = accelerate(VisualTokenizer(config, decoder_dtype=dtype).eval())
    image, codes = torch.randn(2, 3, 32, 32), torch.randn(2, 4, 8, 8)
    features, picture = tokenizer.encode(image), tokenizer.decode(codes)
    kept = features.clone(), picture.clone(), image.clone(), codes.clone()
    with keep_feature_maps():
        for _ in range(3):
            assert torch.equal(tokenizer.encode(image), features)
            assert torch.equal(tokenizer.decode(codes), picture)
    assert all(map(torch.equal, kept, (features, picture, image, codes)))
    monkeypatch.setattr("varestorer_core.cpu.autoencoder.release", lambda _x: None)
    assert torch.equal(tokenizer.encode(image), features)
    assert torch.equal(tokenizer.decode(codes), picture)
    assert picture.untyped_storage().nbytes() == picture.nbytes
