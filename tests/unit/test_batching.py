"""Batches that shrink on out-of-memory, and errors that pass through."""

import gc
import weakref

import pytest
import torch

from varestorer_core.errors import SettingError, VARestorerError
from varestorer_core.settings import RestoreSettings
from varestorer_core.tiles.batching import is_out_of_memory, run_batched, tiles_at_once


def limited(limit, log, error=torch.OutOfMemoryError):
    """Return a run function with memory for `limit` items."""

    def run(start, stop):
        if stop - start > limit:
            raise error("out of memory")
        log.append((start, stop))

    return run


@pytest.mark.parametrize(
    ("count", "batch", "expected"),
    [
        (5, 2, [(0, 2), (2, 4), (4, 5)]),
        (3, 8, [(0, 3)]),
        (1, 1, [(0, 1)]),
        (0, 4, []),
    ],
)
def test_batches(count, batch, expected):
    log, progress = [], []
    run_batched(
        count,
        batch,
        limited(99, log),
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert log == expected
    assert progress == [(stop, count) for _, stop in expected]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_batch_is_halved_and_stays_halved(error):
    log = []
    run_batched(10, 8, limited(3, log, error))
    assert log == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]


def test_a_short_last_batch_is_halved_by_its_own_size():
    log = []
    run_batched(3, 64, limited(1, log))
    assert log == [(0, 1), (1, 2), (2, 3)]


def test_one_item_that_does_not_fit():
    with pytest.raises(VARestorerError, match="one tile at a time") as caught:
        run_batched(4, 4, limited(0, []))
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_other_errors_pass_at_once():
    log = []

    def run(start, stop):
        log.append((start, stop))
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_batched(4, 4, run)
    assert log == [(0, 4)]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, BaseException])
def test_cancel_passes_untouched_even_where_every_exception_counts_as_out_of_memory(kind):
    signal = kind("out of memory")  # the words must not matter here
    log = []

    def cancel(done, total):
        raise signal

    with pytest.raises(kind) as caught:
        run_batched(4, 2, limited(9, log), is_oom=lambda error: True, on_progress=cancel)
    assert caught.value is signal
    assert signal.__cause__ is None
    assert log == [(0, 2)]


def test_failed_attempt_is_freed_before_the_retry():
    class Held:
        pass

    alive = []

    def run(start, stop):
        gc_state = [reference() is not None for reference in alive]
        assert not any(gc_state)
        held = Held()
        alive.append(weakref.ref(held))
        if stop - start > 1:
            raise torch.OutOfMemoryError("out of memory")

    gc.disable()  # freed by reference counts alone, without waiting for a collection
    try:
        run_batched(4, 4, run)
    finally:
        gc.enable()
    assert len(alive) == 6


def test_default_predicate():
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: ...)"))
    assert is_out_of_memory(
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate")
    )
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(KeyError("out of memory"))


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu", 0)])
def test_a_cpu_takes_tiles_one_by_one(device):
    assert tiles_at_once(device, 9, tile=64) == tiles_at_once(device, 0, tile=64) == 1


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("mps")])
def test_other_devices_take_as_many_as_asked(device):
    assert tiles_at_once(device, 9, tile=64) == tiles_at_once(device, 9, tile=1024) == 9


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("mps")])
@pytest.mark.parametrize(
    ("tile", "expected"),
    # Of all sides that there are: four at least, 64 at most, and otherwise the pixels of four official tiles.
    [(64, 64), (128, 64), (192, 28), (256, 16), (384, 7), (512, 4), (768, 4), (1024, 4)],
)
def test_the_automatic_number_depends_on_the_side_of_a_tile(device, tile, expected):
    assert tiles_at_once(device, 0, tile=tile) == expected


def test_every_automatic_number_is_one_that_can_be_set():
    for tile in (1, 16, 64, 1024, 4096):
        RestoreSettings(tile_batch=tiles_at_once("cuda", 0, tile=tile))


def test_batch_is_checked():
    with pytest.raises(SettingError, match="at least 1, got 0"):
        run_batched(4, 0, limited(9, []))


@pytest.mark.parametrize(
    "text",
    [
        "Could not allocate tensor with 805306368 bytes.",
        "There is not enough GPU video memory available!",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "Native API failed. Native API returns: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    ],
)
def test_texts_of_other_back_ends(text):
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))
