"""A host that restores one picture after another does not grow, and a model that it frees leaves nothing behind."""

import importlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from varestorer_core.assets import TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import identify, read_checkpoint, save_safetensors
from varestorer_core.models.transformer import VARTransformer

pytestmark = pytest.mark.host

FREED_SECONDS = 60
"""In which a host has to have acted on the button that frees memory: an end of a wait, not a wait."""
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RUNS = 20


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("host_memory")


def write_large_model(path: Path) -> int:
    """Write a transformer of zeros whose matrices lie in the heap, as those of the official one; return its bytes."""
    config = identify(*read_checkpoint(asset_path(TINY_TRANSFORMER))).config
    config = replace(config, embed_dim=1536, num_heads=12, ffn_dim=6144, depth=6)
    shapes = VARTransformer(config, device="meta").state_dict()
    state = {name: torch.zeros(like.shape, dtype=torch.bfloat16) for name, like in shapes.items()}
    save_safetensors(state, path, kind="transformer", config=config)
    return sum(tensor.nbytes for tensor in state.values())


only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="resident memory is read from /proc"
)


@only_linux
@pytest.mark.slow
def test_twenty_runs_take_no_more_memory_than_three(host, benchmark):
    # A host of its own: what other tests left behind would be given back or used up in these runs.
    # 384 x 384 pixels in nine tiles: a picture kept per run would add 30 MB, the limit is some 20.
    resident = benchmark.measure(host.folder, RUNS, upscale=3.0, overlap=0)["resident_bytes"]
    # The allocator gives back in steps, now or a run later; what is kept stays in all of the last.
    last = min(resident[-3:])
    assert last <= benchmark.LIMIT * resident[benchmark.SETTLED - 1], resident


@only_linux
def test_a_model_that_is_freed_leaves_no_memory_behind(host, benchmark):
    """By the host's own button. What glibc keeps of freed weights is given back."""

    def resident() -> int:
        return benchmark.resident_bytes(host.process.pid)

    def free(enough: float) -> None:
        host.fetch("/free", {"unload_models": True, "free_memory": True})
        deadline = time.monotonic() + FREED_SECONDS
        while resident() > enough and time.monotonic() < deadline:
            time.sleep(0.2)

    path = host.model_file("diffusion_models", "large.safetensors")
    size = write_large_model(path)
    prompt = {
        "load": {
            "class_type": "VARestorerLoadModel",
            "inputs": {"model_name": path.name, "weight_dtype": "bf16"},
        },
        "sink": {"class_type": "TestSink", "inputs": {"anything": ["load", 0]}},
    }
    try:
        host.run(host.whole(upscale=1.0))  # what any first run loads and keeps
        before = resident()
        host.run(prompt)
        assert resident() > before + 0.8 * size, "the weights were never in memory"
        free(before + 0.3 * size)
        assert resident() <= before + 0.3 * size
        assert "memory leak" not in host.log  # how the host calls a model that refers to itself
    finally:
        path.unlink()
