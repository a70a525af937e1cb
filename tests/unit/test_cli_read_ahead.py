"""Reading ahead and writing in the background: order, limits, waiting, failures and stops."""

import threading
import time

import pytest

from varestorer_core.cli.read_ahead import AHEAD, MAX_PIXELS_AHEAD, ReadAhead, StoppedError


class Steps:
    """Counts items between reading and the end of their processing."""

    def __init__(self, pixels=1):
        self.pixels, self.lock = pixels, threading.Lock()
        self.held, self.most, self.worked, self.finished = 0, 0, [], []

    def read(self, item):
        with self.lock:
            self.held += 1
            self.most = max(self.most, self.held)
        return self.pixels

    def work(self, group):
        with self.lock:
            self.held -= len(group)
        self.worked.append(list(group))

    def finish(self, item):
        self.finished.append(item)


def test_every_item_passes_once_and_in_order():
    steps = Steps()
    ReadAhead(range(50), steps.read, [steps.work], steps.finish).run()
    assert steps.worked == [[number] for number in range(50)]
    assert steps.finished == list(range(50))
    assert steps.most <= AHEAD + 1


@pytest.mark.parametrize("group_pixels", [0, 1])
def test_large_pictures_wait_alone(group_pixels):
    """One item is processed, one was read and waits, and reading the next began before that one's size was known."""
    steps = Steps(MAX_PIXELS_AHEAD + 1)
    slow = lambda group: (time.sleep(0.01), steps.work(group))  # noqa: E731
    ReadAhead(range(10), steps.read, [slow], steps.finish, group_pixels).run()
    assert steps.most <= 3
    assert len(steps.finished) == 10


def test_small_pictures_share_a_batch_where_that_is_asked_for():
    steps = Steps(10)
    slow = lambda group: (time.sleep(0.02), steps.work(group))  # noqa: E731
    ReadAhead(range(20), steps.read, [slow], steps.finish, group_pixels=30).run()
    assert sorted(item for group in steps.worked for item in group) == list(range(20))
    assert max(map(len, steps.worked)) == 3


def test_the_worker_does_not_wait_for_files_that_were_read_ahead():
    """Reading takes a third of the processing time, so the worker only waits for the first file."""
    steps = Steps()
    read = lambda item: (time.sleep(0.01), steps.read(item))[1]  # noqa: E731
    work = lambda group: (time.sleep(0.03), steps.work(group))  # noqa: E731
    order = []
    flow = ReadAhead(range(20), read, [work], order.append)
    flow.run()
    assert order == list(range(20))
    assert flow.waited < 20 * 0.01  # what it would be without reading ahead


def test_several_workers_share_the_items():
    steps = Steps()
    slow = lambda group: (time.sleep(0.005), steps.work(group))  # noqa: E731
    ReadAhead(range(40), steps.read, [slow, slow, slow], steps.finish).run()
    assert sorted(steps.finished) == list(range(40))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_step_raises_after_all_ends_the_run(workers):
    steps, stop = Steps(), threading.Event()

    def work(group):
        if stop.is_set():
            raise StoppedError
        if group == [3]:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        ReadAhead(range(1000), steps.read, [work] * workers, steps.finish, stop=stop).run()
    assert stop.is_set()
    assert len(steps.finished) < 1000


def test_a_writer_that_raises_ends_the_run():
    def finish(item):
        raise OSError("disk gone")

    steps = Steps()
    with pytest.raises(OSError, match="disk gone"):
        ReadAhead(range(100), steps.read, [steps.work], finish).run()
