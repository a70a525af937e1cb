from dataclasses import replace

import pytest
import torch

from varestorer_core.errors import ImageError, SettingError, VARestorerError
from varestorer_core.loaded import LoadedStages
from varestorer_core.pipeline import decode_tiles, encode_pyramid, restore_codes
from varestorer_core.restorer import Restorer
from varestorer_core.schedule import get_schedule
from varestorer_core.settings import RestoreSettings

SCHEDULE = get_schedule(1.0, "0.06M")


@pytest.fixture
def restorer(make_transformer, make_tokenizer):
    return Restorer(LoadedStages(make_transformer(lq_prior=True), make_tokenizer()))


def encode(restorer, pictures, **changes):
    encode_tiles = changes.pop("encode", restorer.stages.tokenizer.encode)
    settings = RestoreSettings(upscale=2.0, overlap=32)
    fixed = {"schedule": SCHEDULE, "patch_size": 8, **changes}
    return encode_pyramid(pictures, encode_tiles, settings, **fixed)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (33, 70), (64, 64), (65, 64), (129, 40)])
@pytest.mark.parametrize("upscale", [0.25, 1.0, 1.7])
def test_output_has_exactly_the_asked_size(restorer, size, upscale):
    (restored,) = restorer.restore([torch.rand(3, *size)], upscale=upscale)
    assert restored.shape == (3, *(max(1, round(side * upscale)) for side in size))
    assert restored.min() >= 0
    assert restored.max() <= 1


@pytest.mark.parametrize("settings", [{}, {"detail": 1.0, "seed": 5}])
def test_pixels_do_not_depend_on_the_tile_batch_or_on_other_pictures(bundled, settings):
    """To the last bit: the bundled model, whose kernels are those of real use."""
    pictures = [torch.rand(3, 60, 50), torch.rand(3, 10, 20), torch.rand(3, 40, 70)]
    first = bundled.restore(pictures, upscale=1.5, **settings)
    for tile_batch in (2, 9):
        again = bundled.restore(pictures, upscale=1.5, tile_batch=tile_batch, **settings)
        assert all(map(torch.equal, first, again)), tile_batch
    # In another order, and alone.
    backwards = bundled.restore(pictures[::-1], upscale=1.5, tile_batch=4, **settings)[::-1]
    assert all(map(torch.equal, first, backwards))
    for picture, expected in zip(pictures, first, strict=True):
        assert torch.equal(bundled.restore([picture], upscale=1.5, **settings)[0], expected)


def test_seed_matters_only_with_detail(restorer):
    picture = [torch.rand(3, 40, 40)]
    still = [restorer.restore(picture, upscale=2.0, seed=seed)[0] for seed in (1, 2)]
    assert torch.equal(*still)
    varied = [restorer.restore(picture, upscale=2.0, seed=seed, detail=1.0)[0] for seed in (1, 2)]
    assert not torch.equal(*varied)


def test_progress_counts_every_stage_and_cancels(restorer):
    steps = []
    restorer.restore([torch.rand(3, 90, 70)], upscale=2.0, on_progress=lambda *s: steps.append(s))
    total = steps[-1][1]
    assert [done for done, _ in steps] == list(range(1, total + 1))

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restorer.restore([torch.rand(3, 90, 70)], upscale=2.0, on_progress=cancel)


def test_out_of_memory_halves_the_batch_and_loses_nothing(restorer):
    calls = []

    def short_of_memory(tiles):
        calls.append(len(tiles))
        if len(tiles) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return restorer.stages.tokenizer.encode(tiles)

    pictures = [torch.rand(3, 90, 70)]
    squeezed = encode(restorer, pictures, encode=short_of_memory, tile_batch=4)
    assert max(calls) > 1
    assert torch.equal(squeezed.bits[:], encode(restorer, pictures).bits[:])


def test_cleaned_pictures_are_what_the_tokenizer_saw(restorer):
    pictures = [torch.rand(3, 90, 70)]
    pyramid = encode(restorer, pictures, clean=lambda tiles: tiles * 0.5)
    for seen, source in zip(pyramid.inputs, pyramid.sources, strict=True):
        assert torch.allclose(seen, source * 0.5 + 0.25, atol=1e-5)
    plain = encode(restorer, pictures)
    assert plain.inputs[0] is plain.sources[0]


def test_running_out_of_memory_after_encoding_counts_no_tile_twice(restorer):
    class Stingy(torch.Tensor):
        """Represents tiles on a device from which only one can be copied at a time."""

        def cpu(self, *args, **kwargs):
            if len(self) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return self.as_subclass(torch.Tensor)

    pictures = [torch.rand(3, 90, 70)]
    squeezed = encode(
        restorer,
        pictures,
        encode=lambda tiles: restorer.stages.tokenizer.encode(tiles.as_subclass(torch.Tensor)),
        clean=lambda tiles: tiles.as_subclass(Stingy),
        tile_batch=4,
    )
    assert torch.equal(squeezed.bits[:], encode(restorer, pictures).bits[:])


@pytest.mark.parametrize(
    "pictures",
    [[], [torch.rand(4, 8, 8)], [torch.rand(3, 0, 8)], [torch.full((3, 8, 8), float("nan"))]],
)
def test_pictures_that_cannot_be_restored_are_refused(restorer, pictures):
    with pytest.raises(ImageError):
        restorer.restore(pictures, upscale=2.0)


@pytest.mark.parametrize("upscale", [0, -1, float("nan"), float("inf")])
def test_impossible_upscales_are_refused(restorer, upscale):
    with pytest.raises(SettingError):
        restorer.restore([torch.rand(3, 8, 8)], upscale=upscale)


def test_parts_of_different_families_are_refused(restorer, make_transformer):
    pyramid = encode(restorer, [torch.rand(3, 20, 20)])
    other = make_transformer(codebook_dim=7)
    with pytest.raises(SettingError, match="different families"):
        restore_codes(other, pyramid, other.encode_text())
    with pytest.raises(SettingError, match="detail"):
        RestoreSettings(detail=-1)


def test_codes_and_geometry_must_match(restorer):
    pyramid = encode(restorer, [torch.rand(3, 20, 20)])
    codes = pyramid.codes[:]
    with pytest.raises(SettingError, match="codes of 1 tile, got 2"):
        decode_tiles(restorer.stages.tokenizer.decode, torch.cat([codes, codes]), pyramid.geometry)


def test_fidelity_pulls_towards_what_the_tokenizer_saw(restorer):
    pyramid = encode(restorer, [torch.rand(3, 40, 40)])
    text = restorer.stages.transformer.encode_text()
    target = pyramid.codes[:]
    distances = [
        (
            restore_codes(restorer.stages.transformer, pyramid, text, RestoreSettings(fidelity=f))[
                :
            ]
            - target
        )
        .abs()
        .mean()
        for f in (0.0, 0.5, 2.0, 20.0)
    ]
    assert sorted(distances, reverse=True) == distances
    assert distances[-1] == 0


def test_the_tokenizer_alone_is_what_overwhelming_fidelity_gives(restorer):
    pictures = [torch.rand(3, 40, 40), torch.rand(3, 9, 70)]
    settings = {"overlap": 32, "color_match": "none"}
    alone = restorer.reconstruct(pictures, upscale=2.0, **settings)
    overruled = restorer.restore(pictures, upscale=2.0, fidelity=20.0, **settings)
    assert all(map(torch.equal, alone, overruled))

    cleaned = Restorer(replace(restorer.stages, cleaner=lambda tiles: tiles * 0))
    assert all(
        map(torch.equal, alone, cleaned.reconstruct(pictures, upscale=2.0, clean=False, **settings))
    )
    assert not torch.equal(alone[0], cleaned.reconstruct(pictures, upscale=2.0, **settings)[0])


def test_a_mask_restores_only_there_and_skips_the_other_tiles(restorer):
    picture = torch.rand(3, 150, 150)
    mask = torch.zeros(300, 300)
    mask[:20, :30] = 1.0
    mask[20:24, :30] = 0.5
    steps = []
    whole = restorer.restore([picture], upscale=2.0, color_match="none")[0]
    part = restorer.restore(
        [picture],
        upscale=2.0,
        color_match="none",
        feather=0,
        masks=mask,
        on_progress=lambda *s: steps.append(s),
    )[0]
    source = encode(restorer, [picture]).sources[0]
    assert steps[-1][1] < 3 * len(encode(restorer, [picture]).bits)
    assert torch.allclose(part[:, :20, :30], whole[:, :20, :30], atol=1e-5)
    assert torch.equal(part[:, 24:], source[:, 24:])
    middle = (whole + source)[:, 20:24, :30] / 2
    assert torch.allclose(part[:, 20:24, :30], middle, atol=1e-5)


def test_an_empty_mask_gives_the_resized_source(restorer):
    picture = torch.rand(3, 30, 40)
    (same,) = restorer.restore([picture], upscale=2.0, masks=torch.zeros(30, 40))
    assert torch.equal(same, encode(restorer, [picture]).sources[0])
    with pytest.raises(SettingError, match="at output size"):
        encode(restorer, [picture], masks=[torch.zeros(30, 40)])


def test_numbers_that_are_none_never_become_bits(restorer):
    restorer.stages.transformer.head.bias.fill_(float("nan"))
    with pytest.raises(VARestorerError, match="bf16 or fp32"):
        restorer.restore([torch.rand(3, 20, 20)], upscale=2.0)
