"""Overlap of CPU work with a device: its order, that nothing is lost, and that results are the same."""

from types import SimpleNamespace

import pytest
import torch

from varestorer_core.color import match_color
from varestorer_core.errors import VARestorerError
from varestorer_core.resize import resize_lanczos, resized_ahead
from varestorer_core.tiles.batching import run_batched
from varestorer_core.tiles.interleaving import Interleaved


def run(device, count=5, batch=2, limit=99):
    """Return the events of a stage on a device, and the stored numbers."""
    log, kept = [], []

    def make(start, stop):
        log.append(f"make {start}-{stop}")
        return list(range(start, stop))

    stage = Interleaved(count, make)

    def work(start, stop):
        inputs = stage.take(start, stop)
        log.append(f"start {start}-{stop}")
        if stop - start > limit:
            raise torch.OutOfMemoryError("out of memory")
        result = SimpleNamespace(device=torch.device(device))
        stage.meanwhile(result, start, stop)
        log.append(f"read {start}-{stop}")

        def rest():
            log.append(f"rest {start}-{stop}")
            kept.extend(inputs)

        stage.later(result, rest)

    run_batched(count, batch, work)
    stage.finish()
    return log, kept


def test_a_gpu_computes_while_the_host_finishes_one_batch_and_prepares_another():
    log, kept = run("cuda")
    assert log == [
        "make 0-2", "start 0-2", "make 2-4", "read 0-2",
        "start 2-4", "rest 0-2", "make 4-5", "read 2-4",
        "start 4-5", "rest 2-4", "read 4-5", "rest 4-5",
    ]  # fmt: skip
    assert kept == list(range(5))


def test_a_cpu_does_one_thing_after_the_other():
    log, kept = run("cpu", count=2, batch=1)
    assert log == [
        "make 0-1", "start 0-1", "read 0-1", "rest 0-1",
        "make 1-2", "start 1-2", "read 1-2", "rest 1-2",
    ]  # fmt: skip
    assert kept == [0, 1]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_batch_that_comes_again_in_halves_loses_nothing(limit):
    log, kept = run("cuda", count=11, batch=8, limit=limit)
    assert kept == list(range(11))
    assert "start 0-8" in log


def test_memory_that_runs_out_in_the_rest_does_not_repeat_a_batch():
    stage = Interleaved(2, lambda start, stop: start)
    result = SimpleNamespace(device=torch.device("cuda"))

    def rest():
        raise RuntimeError("not enough memory: you tried to allocate")

    stage.later(result, rest)
    with pytest.raises(VARestorerError, match="main memory"):
        stage.meanwhile(result, 0, 1)


def test_other_errors_of_the_rest_pass():
    stage = Interleaved(1, lambda start, stop: start)
    stage.later(SimpleNamespace(device=torch.device("cuda")), lambda: {}["missing"])
    with pytest.raises(KeyError):
        stage.finish()


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_resize_the_same(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    picture = torch.rand(3, 90, 70)
    whole = resize_lanczos(picture, (400, 300))
    for channel in range(3):
        assert torch.equal(whole[channel], resize_lanczos(picture[channel][None], (400, 300))[0])
    with resized_ahead([picture, picture[:, :50]], [(400, 300), (50, 70)]) as resized:
        assert len(resized) == 2
        assert torch.equal(resized[1], picture[:, :50])
        assert torch.equal(resized[0], whole)


def test_an_error_while_resizing_is_raised_where_the_picture_is_read():
    image = torch.rand(3, 4, 4)
    with (
        pytest.raises(ValueError, match=r"positive|greater|> 0"),
        resized_ahead([image], [(0, 8)]) as resized,
    ):
        tuple(resized)


def test_a_device_without_memory_leaves_planes_to_the_cpu(monkeypatch):
    image, source = torch.rand(2, 3, 50, 40)
    expected = match_color(image, source, "wavelet")
    move = torch.Tensor.to

    def to(self, *args, **kwargs):
        if torch.device("cuda") in args:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    assert torch.equal(match_color(image, source, "wavelet", device=torch.device("cuda")), expected)
