"""Restoring on a pretended Apple GPU: only operators and sizes that PyTorch supports there."""

import apple
import pytest
import small_networks as small
import torch
from pretended import PretendedDevice

from varestorer_core.cleaner import Cleaner
from varestorer_core.distill.entropy import entropy_loss
from varestorer_core.distill.self_correction import flipped_pyramid
from varestorer_core.evaluate.passes import CachedSteps, CausalPass, RefedSteps
from varestorer_core.loaded import LoadedStages
from varestorer_core.models.bsq import quantize
from varestorer_core.models.generation import generate
from varestorer_core.restorer import Restorer
from varestorer_core.schedule import get_schedule

AVAILABLE = apple.operators()
pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this PyTorch has no table of its operators")


@pytest.fixture
def device():
    """Return a pretended Apple GPU, on which the test may only run what MPS has."""
    with PretendedDevice("mps") as device:
        yield device
    assert device.operators
    missing = set(device.operators) - AVAILABLE
    assert not missing, missing


@pytest.mark.parametrize("cleaned", [False, True], ids=["plain", "cleaned"])
def test_a_restoration(device, cleaned):
    network = torch.nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False).to("mps")
    model = small.transformer(device="mps", lq_prior=True)
    cleaner = Cleaner(network, None) if cleaned else None
    stages = LoadedStages(model, small.tokenizer(device="mps"), cleaner, device="mps")
    mask = torch.zeros(32, 64)
    mask[:20, :20] = 1
    result = Restorer(stages).restore(
        small.pictures(32, 64)[0], upscale=1.0, overlap=0, detail=0.5, fidelity=0.5, tile_batch=2,
        masks=mask, feather=0,
    )  # fmt: skip
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("kind", [CausalPass, CachedSteps, RefedSteps])
def test_other_passes(device, kind):
    model = small.transformer(device="mps", lq_prior=True)
    stages = LoadedStages(kind(model), small.tokenizer(device="mps"), device="mps")
    result = Restorer(stages).restore(small.pictures()[0], upscale=1.0, overlap=0)
    assert torch.isfinite(result).all()


def test_generation(device):
    text = torch.randn(1, 5, 16).to("mps")
    bits = generate(
        small.transformer(device="mps"), get_schedule(1.0, "0.06M"), text=text, cfg=3.0,
        cfg_blocks=(-1,), top_p=0.9, batch=2, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert bits.device.type == "mps"


def test_training_averages_areas_on_the_cpu(device):
    """On the device, areas whose sides do not divide the picture's are not averaged."""
    schedule = get_schedule(1.0, "0.06M")
    features = torch.randn(1, 6, 16, 16).to("mps")
    target, seen = flipped_pyramid(features, schedule, torch.Generator(), 0.3)
    assert target.device.type == seen.device.type == "mps"
    found = quantize(features, schedule)
    assert found.bits.device.type == found.summed_codes.device.type == "mps"
    assert entropy_loss(features, found.bits, schedule).device.type == "mps"
    assert not any("avg_pool" in name for name in device.operators), device.operators
