"""Selection of the host's attention kernels, and their memory estimates."""

from types import SimpleNamespace

import pytest
import torch

from varestorer_core.config import VARESTORER_2B

NAMES = ("attention_pytorch", "attention_sub_quad", "attention_split", "attention_sage")


@pytest.fixture
def attend(stand_in):
    """Return a function that returns the kernel that ran for a dtype, with the user's choice for the host."""
    ran = []
    for name in NAMES:
        setattr(stand_in.kernels, name, lambda *_, name=name, **__: ran.append(name))

    def run(chosen, dtype):
        stand_in.kernels.optimized_attention = getattr(stand_in.kernels, chosen)
        q = torch.empty(1, 2, 3, 4, dtype=dtype, device="meta")  # any device but a CPU
        stand_in.load("attention").attention(q, q, q)
        return ran.pop()

    return run


@pytest.mark.parametrize("chosen", NAMES)
def test_half_types_run_on_the_chosen_kernel(attend, chosen):
    assert attend(chosen, torch.bfloat16) == chosen


def test_float32_runs_in_parts_where_the_host_has_no_fused_kernel(attend):
    assert attend("attention_sub_quad", torch.float32) == "attention_sub_quad"
    assert attend("attention_split", torch.float32) == "attention_split"
    assert attend("attention_sage", torch.float32) == "attention_pytorch"


def test_requests_count_the_scores_where_attention_is_not_fused(stand_in):
    model = SimpleNamespace(config=VARESTORER_2B, compute_dtype=torch.bfloat16)
    patcher = SimpleNamespace(model=model, load_device=torch.device("cuda"))
    tile_bytes = stand_in.load("model").tile_bytes
    fused = tile_bytes(patcher, 3545)
    stand_in.management.pytorch_attention_flash_attention = lambda: False
    scores = 2 * VARESTORER_2B.num_heads * 3545**2 * 2
    assert tile_bytes(patcher, 3545) >= scores > fused
    assert tile_bytes(patcher, 1024, 2048) > tile_bytes(patcher, 1024)
    patcher.load_device = torch.device("cpu")  # whose kernel is fused
    assert tile_bytes(patcher, 3545) == fused
