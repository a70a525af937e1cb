"""Overlap of the CPU's work between batches with the computation on a device.

Kernels on a GPU run asynchronously: a call of a network returns immediately, and only reading its result waits. In the
meantime, the CPU finishes the previous batch (blending, sampling, packing) and prepares the inputs of the next one
(cropping tiles, summing codes). Everything runs in one thread, in the order of the tiles, so results do not depend on
it. If the networks run on the CPU, everything runs in sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import Tensor

from ..errors import VARestorerError
from .batching import is_out_of_memory

Inputs = TypeVar("Inputs")


class Interleaved(Generic[Inputs]):
    """CPU work of one stage that overlaps with the computation on a device.

    For every batch, call `take`, start the network, call `meanwhile`, read the result, and call `later`; after the last
    one, call `finish`. A batch that ran out of memory is repeated in halves.

    Args:
        count: number of tiles of the stage.
        make: returns the inputs of tiles start .. stop-1, on the CPU.
    """

    def __init__(self, count: int, make: Callable[[int, int], Inputs]):
        self._count, self._make = count, make
        self._made: tuple[tuple[int, int], Inputs] | None = None
        self._rest: Callable[[], None] | None = None

    def take(self, start: int, stop: int) -> Inputs:
        """Return the inputs of a batch, which may have been prepared already."""
        made, self._made = self._made, None
        return made[1] if made is not None and made[0] == (start, stop) else self._make(start, stop)

    def meanwhile(self, result: Tensor, start: int, stop: int) -> None:
        """Finish the previous batch and prepare the next one while a device computes `result`."""
        if result.device.type == "cpu":
            return
        self.finish()
        after = (stop, min(2 * stop - start, self._count))
        if stop < self._count:
            self._made = (after, self._make(*after))

    def later(self, result: Tensor, rest: Callable[[], None]) -> None:
        """Run `rest` for a batch: now, or during the next one if a device computed its result."""
        self._rest = rest
        if result.device.type == "cpu":
            self.finish()

    def finish(self) -> None:
        """Run the remaining work, if any.

        Raises:
            VARestorerError: if the main memory is insufficient. Smaller batches would not help: the tiles exist.
        """
        rest, self._rest = self._rest, None
        if rest is None:
            return
        try:
            rest()
        except Exception as error:
            if is_out_of_memory(error):
                raise VARestorerError(
                    "The main memory ran out while tiles were blended. Close other programs, or restore to a "
                    "smaller size."
                ) from error
            raise
