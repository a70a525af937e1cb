"""Restoring on a pretended Apple GPU: only operators and sizes that PyTorch supports there."""

import small_networks as small
import torch
from pretended import PretendedDevice

from varestorer_core.distill.entropy import entropy_loss
from varestorer_core.distill.self_correction import flipped_pyramid
from varestorer_core.loaded import LoadedStages
from varestorer_core.models.bsq import quantize
from varestorer_core.restorer import Restorer
from varestorer_core.schedule import get_schedule

_NAMES = """
    _native_batch_norm_legit _safe_softmax _softmax _to_copy _unsafe_view abs add add_ addcmul addmm all arange
    baddbmm bmm cat clamp clamp_min clone constant_pad_nd convolution copy_ div embedding empty empty_like eq
    exp fill_ full full_like gelu gt index index_select linalg_vector_norm logical_not lt masked_fill_ mean mm
    mul native_group_norm native_layer_norm ne neg ones ones_like pow relu repeat_interleave rsqrt scalar_tensor
    sigmoid silu stack sub tanh upsample_bilinear2d upsample_nearest2d where zeros zeros_like
"""
AVAILABLE = {f"aten::{name}" for name in _NAMES.split()}
"""Operators that PyTorch implements for MPS without conditions on sizes."""


def test_a_restoration():
    with PretendedDevice("mps") as device:
        model = small.transformer(device="mps", lq_prior=True)
        stages = LoadedStages(model, small.tokenizer(device="mps"), device="mps")
        picture = small.pictures(32, 64)[0]
        result = Restorer(stages).restore(
            picture, upscale=1.0, overlap=0, detail=0.5, fidelity=0.5, tile_batch=2
        )
    assert torch.isfinite(result).all()
    assert set(device.operators) <= AVAILABLE, set(device.operators) - AVAILABLE


def test_quantised_features_are_on_the_device():
    with PretendedDevice("mps"):
        schedule = get_schedule(1.0, "0.06M")
        found = quantize(torch.randn(1, 6, 16, 16).to("mps"), schedule)
        assert found.bits.device.type == found.summed_codes.device.type == "mps"


def test_training_averages_areas_on_the_cpu():
    """On the device, areas whose sides do not divide the picture's are not averaged."""
    schedule = get_schedule(1.0, "0.06M")
    with PretendedDevice("mps") as device:
        features = torch.randn(1, 6, 16, 16).to("mps")
        target, seen = flipped_pyramid(features, schedule, torch.Generator(), 0.3)
        assert target.device.type == seen.device.type == "mps"
        bits = quantize(features, schedule).bits
        assert entropy_loss(features, bits, schedule).device.type == "mps"
    assert not any("avg_pool" in name for name in device.operators), device.operators
