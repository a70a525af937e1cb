"""How many tiles the nodes run at once, and the memory that they ask the host for."""

import pytest
import torch

from .conftest import Patcher

NEED = 1000
"""Bytes of a tile."""


@pytest.fixture
def load(stand_in):
    """Return a function that loads a model for tiles, and returns their number at once and the bytes asked for."""

    def run(tile_batch=0, device="cuda", free=2**40, **tiles):
        stand_in.management.get_free_memory = lambda _: free
        patcher = Patcher(None, torch.device(device))
        batch = stand_in.load("memory").load_for_tiles(patcher, NEED, tile_batch, **tiles)
        return batch, stand_in.loads[-1][1]["memory_required"]

    return run


@pytest.mark.parametrize(("tile", "expected"), [(64, 64), (256, 16), (512, 4), (1024, 4)])
def test_the_automatic_number_depends_on_the_side_of_a_tile(load, tile, expected):
    assert load(tile=tile) == (expected, expected * NEED)


def test_it_is_no_more_than_there_are_or_fit(load):
    assert load(tile=64, tiles=5) == (5, 5 * NEED)
    assert load(tile=64, free=10.5 * NEED) == (10, 64 * NEED)
    assert load(tile=64, free=0) == (1, 64 * NEED)


def test_a_number_that_is_set_is_kept(load):
    assert load(9, tile=64, free=0) == load(9, tile=1024, free=0) == (9, 9 * NEED)


def test_a_cpu_runs_one_tile(load):
    assert load(tile=64, device="cpu") == load(9, tile=64, device="cpu") == (1, NEED)
