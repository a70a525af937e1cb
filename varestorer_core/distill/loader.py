"""Loading of batches in worker processes, which draw, decode and degrade pictures ahead of the training step.

Every batch has its own generator, so the pictures are the same for any number of workers. A worker that is killed is
replaced and its batches are drawn again. Batches are uint8; on a GPU, the next one is copied from pinned memory during
the current step.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import VARestorerError
from .batches import Batch, Draw, batch_generator, draw_batch, draw_of
from .sources import PictureSource
from .workers import start_worker

_AHEAD = 2
"""Batches per worker that are in progress or finished."""
_DEATHS = 10
"""How many times in a row workers may die without finishing a batch."""
_log = logging.getLogger(__name__)

_Arrays = dict[str, NDArray[np.uint8]]


class LoaderError(VARestorerError):
    """The processes that draw pictures keep dying."""


@dataclass(frozen=True)
class Drawing:
    """All batches of a run, by number."""

    source: PictureSource
    draws: tuple[Draw, ...]
    seed: int
    accumulate: int = 1
    """Batches per step."""

    def __call__(self, number: int) -> Batch:
        """Return a batch of uint8 pictures."""
        draw = draw_of(self.draws, number // self.accumulate)
        return draw_batch(self.source, draw, batch_generator(self.seed, number))


def load_batches(
    drawing: Drawing, numbers: Sequence[int], workers: int, device: str | torch.device = "cpu"
) -> Iterator[Batch]:
    """Yield the batches with these numbers in order, on the device.

    Args:
        workers: number of processes that draw ahead; 0 draws each batch in this process when it is needed.

    Raises:
        LoaderError: if workers keep dying.
    """
    device = torch.device(device)
    drawn = map(drawing, numbers) if workers == 0 else _drawn_by_workers(drawing, numbers, workers)
    if device.type == "cpu":
        yield from drawn
        return
    following: Batch | None = None
    try:
        for batch in drawn:
            # The copy of this batch overlaps with the computation on the previous one.
            moved = {name: _to_device(value, device) for name, value in batch.items()}
            if following is not None:
                yield following
            following = moved
        if following is not None:
            yield following
    finally:
        if isinstance(drawn, Iterator) and hasattr(drawn, "close"):
            drawn.close()  # pyright: ignore[reportAttributeAccessIssue]


def _to_device(pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type == "cuda":
        return pictures.pin_memory().to(device, non_blocking=True)
    return pictures.to(device)


def _drawn_by_workers(drawing: Drawing, numbers: Sequence[int], workers: int) -> Iterator[Batch]:
    """Yield batches in order; if a worker dies, replace all workers and draw unfinished batches again."""
    pool = _start(drawing, workers)
    pending: deque[tuple[int, Future[_Arrays]]] = deque()
    ahead, deaths = iter(numbers), 0
    try:
        while True:
            while len(pending) < workers * _AHEAD and (number := next(ahead, None)) is not None:
                pending.append((number, _submit(pool, number)))
            if not pending:
                return
            try:
                batch = pending[0][1].result()
            except BrokenProcessPool as error:
                deaths += 1
                if deaths > _DEATHS:
                    raise LoaderError(
                        f"The processes that draw pictures ended {deaths} times in a row without a batch. Memory may "
                        "have run out: use fewer --workers, or --workers 0 to draw in the training process."
                    ) from error
                _log.warning("a process that draws pictures ended; starting it again")
                pool.shutdown(wait=False, cancel_futures=True)
                pool = _start(drawing, workers)
                pending = deque((number, _submit(pool, number)) for number, _ in pending)
                continue
            pending.popleft()
            deaths = 0
            yield {name: torch.from_numpy(value) for name, value in batch.items()}
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(drawing: Drawing, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, initializer=_begin, initargs=(drawing, os.getpid()))


def _submit(pool: ProcessPoolExecutor, number: int) -> Future[_Arrays]:
    try:
        return pool.submit(_draw, number)
    except BrokenProcessPool as error:
        failed: Future[_Arrays] = Future()
        failed.set_exception(error)
        return failed


_drawing: Drawing | None = None
"""The drawing of this worker process."""


def _begin(drawing: Drawing, parent: int) -> None:
    """Prepare a worker process."""
    global _drawing
    _drawing = drawing
    start_worker(parent)


def _draw(number: int) -> _Arrays:
    assert _drawing is not None
    # As arrays, which are passed by value: tensors would be in shared memory that ends with this process.
    return {name: value.numpy() for name, value in _drawing(number).items()}
