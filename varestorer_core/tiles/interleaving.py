"""Work of the host on tiles while a device works: what comes after one batch and before the next one.

A GPU returns from a network at once and computes on its own; only reading its result waits. So between the two the
host finishes the batch before (blending, sampling, packing) and makes the inputs of the batch after (cutting, summing
codes). Everything runs in one thread, in the order of the tiles, so no result depends on it. On a CPU there is nothing
to wait for, and everything runs in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

from ..errors import VARestorerError
from .batching import is_out_of_memory

Inputs = TypeVar("Inputs")


class Interleaved(Generic[Inputs]):
    """What the host does beside a device in one stage.

    For every batch call `take`, start the network, call `meanwhile`, read the result, and call `later`; after the last
    one call `finish`. A batch that ran out of memory is taken again in halves.

    Args:
        count: number of tiles of the stage.
        make: returns the inputs of tiles start .. stop-1, on the CPU.
    """

    def __init__(self, count: int, make: Callable[[int, int], Inputs]):
        self._count, self._make = count, make
        self._made: tuple[tuple[int, int], Inputs] | None = None
        self._rest: Callable[[], None] | None = None

    def take(self, start: int, stop: int) -> Inputs:
        """Return the inputs of a batch, which may have been made already."""
        made, self._made = self._made, None
        return made[1] if made is not None and made[0] == (start, stop) else self._make(start, stop)

    def meanwhile(self, result: Tensor, start: int, stop: int) -> None:
        """Finish the batch before and prepare the one after, if a device still computes the result of this one."""
        if result.device.type == "cpu":
            return
        self.finish()
        after = (stop, min(2 * stop - start, self._count))
        if stop < self._count:
            self._made = (after, self._make(*after))

    def later(self, result: Tensor, rest: Callable[[], None]) -> None:
        """Run what is left to do for a batch: now, or beside the next one if a device computed its result."""
        self._rest = rest
        if result.device.type == "cpu":
            self.finish()

    def finish(self) -> None:
        """Run what is left to do, if anything is.

        Raises:
            VARestorerError: if the main memory does not suffice. Smaller batches would not help: the tiles exist.
        """
        rest, self._rest = self._rest, None
        if rest is None:
            return
        try:
            rest()
        except Exception as error:
            if is_out_of_memory(error):
                raise VARestorerError(
                    "The main memory ran out while tiles were put together. Close other programs, or restore to a "
                    "smaller size."
                ) from error
            raise
