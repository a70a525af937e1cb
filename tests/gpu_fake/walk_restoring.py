"""Restoring, generating and cleaning on a pretended CUDA device, in every type that weights are loaded in."""

import pytest
import small_networks as small
import torch
import torch.nn.functional as F
from pretended import PretendedDevice

from varestorer_core import pipeline
from varestorer_core.cleaner import Cleaner
from varestorer_core.config import TransformerConfig
from varestorer_core.evaluate.passes import CachedSteps, CausalPass, RefedSteps
from varestorer_core.loaded import LoadedStages
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.models.generation import generate
from varestorer_core.models.layers import BlankLayers
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.restorer import Restorer
from varestorer_core.schedule import get_schedule
from varestorer_core.settings import RestoreSettings
from varestorer_core.tiles.tile_bits import TileCodes
from varestorer_core.tiles.tiling import TileMerger, plan_tiles

TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]
SCHEDULE = get_schedule(1.0, "0.06M")


@pytest.fixture(autouse=True)
def device():
    with PretendedDevice() as active:
        yield active


def _prompt(model, rows=5):
    features = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(8)[None] < rows
    device = next(model.parameters()).device
    return model.encode_text(features.to(device), mask.to(device), device=device)


def _restore(
    model, tokenizer, device, size=(32, 32), cleaner=None, text=None, masks=None, **settings
):
    stages = LoadedStages(model, tokenizer, cleaner, text, device)
    chosen = {"upscale": 1.0, "overlap": 0, "tile_batch": 2, "feather": 0, **settings}
    return Restorer(stages).restore(small.pictures(*size)[0], masks=masks, **chosen)


@pytest.mark.parametrize("weights", TYPES, ids=str)
def test_a_picture_is_that_of_the_cpu(weights):
    decoding = torch.bfloat16 if weights == torch.bfloat16 else None
    settings = {"detail": 0.7, "fidelity": 0.5, "seed": 3}
    results = []
    for device in ("cpu", "cuda"):
        model = small.transformer(weights, device=device, lq_prior=True)
        tokenizer = small.tokenizer(decoding, device)
        results.append(_restore(model, tokenizer, device, text=_prompt(model), **settings))
    assert results[1].device.type == "cpu"
    if weights == torch.float32:  # in others, another attention's rounding tips bits
        torch.testing.assert_close(*results, atol=1e-4, rtol=0)
    else:
        assert torch.isfinite(results[1]).all()


@pytest.mark.parametrize("weights", TYPES, ids=str)
def test_a_batch_of_tiles_waits_for_one_read_and_six_copies_at_most(weights, device):
    model, tokenizer = small.transformer(weights), small.tokenizer()
    counts = []
    for tiles in (2, 4):
        device.clear()
        _restore(model, tokenizer, "cuda", size=(32, 32 * tiles), detail=0.5)
        batches = -(-len(plan_tiles(32, 32 * tiles, 32, 0)) // 2)
        counts.append((batches, device.reads.total(), device.copies.total()))
    (batches, reads, copies), (more, more_reads, more_copies) = counts
    assert more > batches
    assert more_reads - reads <= more - batches, device.reads
    assert more_copies - copies <= 6 * (more - batches), device.copies


@pytest.mark.parametrize(("tile_batch", "most"), [(0, 64), (30, 30)])
def test_small_tiles_run_many_at_once(tile_batch, most):
    """Most of a pass over four tiles of 32 pixels would be launches of kernels."""
    size = 32, 32 * 34
    tiles = len(plan_tiles(*size, 32, 0))
    assert tiles > 64
    stages = LoadedStages(small.transformer(), small.tokenizer(), device="cuda")
    done = []
    Restorer(stages).restore(
        small.pictures(*size)[0], upscale=1.0, overlap=0, tile_batch=tile_batch,
        on_progress=lambda *count: done.append(count),
    )  # fmt: skip
    assert len(done) == 3 * -(-tiles // most)  # encode, restore, decode


def test_a_student_without_cross_scale_attention():
    model = small.transformer(torch.bfloat16, cross_scale=False)
    assert torch.isfinite(_restore(model, small.tokenizer(), "cuda")).all()


def test_masks_and_a_cleaner(device):
    network = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False).to("cuda")
    mask = torch.zeros(32, 64)
    mask[:20, :20] = 1
    for dtype in (None, torch.bfloat16):
        result = _restore(
            small.transformer(),
            small.tokenizer(),
            "cuda",
            (32, 64),
            cleaner=Cleaner(network, dtype),
            masks=mask,
        )
        assert result.shape == (3, 32, 64)


def test_cleaned_tiles_stay_on_the_device(device):
    """Pixels go there once, and come back once, for the picture that the tokenizer saw."""
    network = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False).to("cuda")
    stages = LoadedStages(
        small.transformer(), small.tokenizer(), Cleaner(network, None), device="cuda"
    )
    device.clear()
    stages.encode(small.pictures(32, 64), RestoreSettings(upscale=1.0, overlap=0, tile_batch=8))
    pixels = [copy for copy in device.copies.elements() if ", 3, 32, 32) " in copy]
    assert sorted(copy[:9] for copy in pixels) == ["to device", "to host ("], pixels
    assert device.reads.total() <= 1, (device.reads, device.copies)


@pytest.mark.parametrize("cleaned", [False, True], ids=["plain", "cleaned"])
def test_the_host_works_on_tiles_while_the_device_does(cleaned, monkeypatch):
    """Only before the first result of a stage and after the last one does the device wait for the host's work."""
    log = []

    def record(what, owner, name):
        run = getattr(owner, name)

        def recorded(*args, **kwargs):
            if what != "read" or args[0].device.type != "cpu":
                log.append(what)
            return run(*args, **kwargs)

        monkeypatch.setattr(owner, name, recorded)

    model, tokenizer = small.transformer(), small.tokenizer()
    network = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False).to("cuda")
    record("read", torch.Tensor, "cpu")
    for network_of_a_stage, name in (
        (tokenizer, "encode"),
        (model, "forward"),
        (tokenizer, "decode"),
    ):
        record("start", network_of_a_stage, name)
    for owner, name in (
        (pipeline, "extract_tiles"),
        (pipeline, "tile_noise"),
        (pipeline, "sample_bits"),
        (TileCodes, "__getitem__"),
        (TileMerger, "add"),
    ):
        record("host", owner, name)
    cleaner = Cleaner(network, None) if cleaned else None
    tiles, batch = 8, 2
    _restore(model, tokenizer, "cuda", (32, 32 * tiles), cleaner, detail=0.5, tile_batch=batch)
    busy, alone, beside = False, 0, 0
    for what in log:
        if what == "host":
            alone, beside = alone + (not busy), beside + busy
        else:
            busy = what == "start"
    per_tile = 4 + cleaned  # cut, noise, blend twice; a batch: sample, sum codes
    assert alone + beside >= per_tile * (tiles - 1)
    at_the_ends = (2 + cleaned) * batch + 2  # first cut and codes; last sampling and blends
    assert alone <= at_the_ends, log


@pytest.mark.parametrize(
    ("kind", "weights"),
    [(kind, weights) for weights in TYPES for kind in (CausalPass, CachedSteps)]
    + [(RefedSteps, torch.float32)],
    ids=str,
)
def test_other_passes(weights, kind, device):
    model = small.transformer(weights, lq_prior=True)
    result = _restore(kind(model), small.tokenizer(), "cuda")
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("weights", TYPES, ids=str)
def test_generation(weights, device):
    model = small.transformer(weights)
    text = torch.randn(1, 5, 16).to("cuda")
    generator = torch.Generator().manual_seed(0)
    for mixed in [(), (-1,)] if weights == torch.float32 else [()]:
        bits = generate(
            model, SCHEDULE, text=text, cfg=3.0, cfg_blocks=mixed, top_p=0.9, batch=2,
            generator=generator,
        )  # fmt: skip
        assert bits.device.type == "cuda"


@pytest.mark.parametrize("base", TYPES, ids=str)
def test_adapters_apart_from_their_base(base):
    model = small.transformer(base, torch.bfloat16, lora_rank=2)
    assert torch.isfinite(_restore(model, small.tokenizer(), "cuda")).all()


def test_a_partial_load_copies_only_what_its_layers_cast(device):
    """Vectors of a block that stay on the CPU go into the prompt's context once; a pass does not need them."""
    cast = []

    def to(values, parameters):
        found = [None if p is None else p.to(values) for p in parameters]
        cast.extend(p for p in found if p is not None)
        return found

    class Linear(torch.nn.Linear):
        def forward(self, values):
            return F.linear(values, *to(values, (self.weight, self.bias)))

    class LayerNorm(torch.nn.LayerNorm):
        def forward(self, values):
            return F.layer_norm(
                values, self.normalized_shape, *to(values, (self.weight, self.bias))
            )

    class Layers(BlankLayers):
        pass

    Layers.Linear, Layers.LayerNorm = Linear, LayerNorm
    config = TransformerConfig(**{**vars(small.TRANSFORMER), "depth": 2})
    model = VARTransformer(config, operations=Layers).eval().requires_grad_(False)
    model.lvl_embed.to("cuda")
    model.pos_start = torch.nn.Parameter(model.pos_start.to("cuda"), requires_grad=False)
    text = model.encode_text(device="cuda")
    bits = (torch.rand(1, SCHEDULE.num_tokens, 6) > 0.5).to("cuda")
    tokens = pyramid_tokens(bits, SCHEDULE, "long")
    model(tokens, text, SCHEDULE)  # makes the tables that later passes find
    device.clear()
    cast.clear()
    model(tokens, text, SCHEDULE)
    assert device.copies.total() == len(cast) > 0, device.copies
    assert not device.reads, device.reads
