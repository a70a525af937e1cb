"""The stages of the nodes on a pretended CUDA device, with stand-ins for the host's modules."""

import importlib
from types import SimpleNamespace

import pytest
import small_networks as small
import torch
from pretended import PretendedDevice

from tests.unit.nodes_host.conftest import Host, Patcher
from varestorer_core.tiles.tiling import plan_tiles

CUDA = torch.device("cuda", 0)


@pytest.fixture
def host(monkeypatch):
    host = Host(monkeypatch)
    host._module(
        "comfy.cli_args",
        LatentPreviewMethod=SimpleNamespace(NoPreviews="none"),
        args=SimpleNamespace(preview_method="auto", preview_size=64),
    )
    with PretendedDevice():
        yield host
    host.close()


def restore(host, size):
    """Restore a picture by tiles of 32 pixels and return the previews after each pass, of all three stages."""
    model = Patcher(small.transformer(), load_device=CUDA)
    model.get_attachment = lambda name: None
    vae = host.load("vae").VARestorerVAE(small.tokenizer())
    vae.device = vae.patcher.load_device = CUDA
    vae.vae_dtype = torch.float32
    stages = host.load("stages").HostStages(model=model, vae=vae)
    passes = []
    restored = importlib.import_module("pack.varestorer_core.restorer").Restorer(stages).restore(
        small.pictures(*size)[0], upscale=1.0, overlap=0,
        on_progress=lambda done, total, preview=None: passes.append(preview),
    )  # fmt: skip
    assert restored.shape == (3, *size)
    return passes


def test_small_tiles_run_many_at_once(host):
    size = 32, 32 * 34
    assert len(plan_tiles(*size, 32, 0)) == 70
    passes = restore(host, size)
    assert len(passes) == 3 * 2
    assert passes[-1] is None  # the result follows
    _, preview, _ = passes[-2]
    assert preview.size == (64, 2)


def test_no_more_tiles_run_at_once_than_fit(host):
    host.management.get_free_memory = lambda device: 0
    tiles = len(plan_tiles(32, 96, 32, 0))
    assert tiles > 1
    assert len(restore(host, (32, 96))) == 3 * tiles
