"""Processing of tiles in batches that shrink when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import SettingError, VARestorerError
from ..settings import MAX_TILE_BATCH

ProgressCallback = Callable[[int, int], None]
"""Called with (done, total); an exception raised in it cancels the run."""

AUTO_BATCH = 4
"""Minimum of the automatic number of tiles per pass, and the number of official tiles: more of them gain little."""
AUTO_PIXELS = AUTO_BATCH * 512 * 512
"""Pixels of the tiles of an automatic batch, of which there are at least `AUTO_BATCH`: those of four official tiles."""


_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "not enough gpu video memory",  # DirectML
    "could not allocate tensor with",  # DirectML
    "out_of_device_memory",  # Level Zero
    "out_of_host_memory",
    "out_of_resources",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "cusolver_status_alloc_failed",
)
"""Parts of back ends' messages for a lack of memory, in lower case."""


def tiles_at_once(device: torch.device | str, tile_batch: int, *, tile: int) -> int:
    """Return how many tiles to run together on a device: `tile_batch` (0: as many as suit a GPU), or one on a CPU.

    A pass over small tiles has as many kernels as one over large tiles, and a GPU would mostly wait for their launches.
    The automatic number of tiles therefore depends on their size: as many as have the pixels of four official tiles,
    at least four, and at most the maximum of the setting.

    CPU kernels split the sums of a batch differently from those of a single tile, and so round differently (1e-6 in the
    decoder), which may flip a bit. Processing one tile at a time makes its pixels independent of the batch, at no cost:
    one tile keeps all cores busy.

    Args:
        tile_batch: the setting; 0 means automatic.
        tile: side of a tile in pixels.
    """
    if torch.device(device).type == "cpu":
        return 1
    return tile_batch or min(max(AUTO_BATCH, AUTO_PIXELS // tile**2), MAX_TILE_BATCH)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch means that a device ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # Some back ends and the CPU allocator raise a plain RuntimeError that only its message identifies.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY)


def run_batched(
    count: int,
    batch: int,
    run: Callable[[int, int], None],
    *,
    is_oom: Callable[[BaseException], bool] = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> None:
    """Call `run(start, stop)` over 0 .. count in steps of at most `batch`, halved on out-of-memory.

    Args:
        run: handles items start .. stop-1; is called again for the same start with fewer items
            after running out of memory, so it must only keep results of calls that succeed.
        is_oom: returns whether an error means out of memory; a host recognises more kinds than torch.
        on_progress: called with (items done, count) after every batch. Exceptions raised in it are propagated, which
            cancels the run.

    Raises:
        VARestorerError: if a single item does not fit.
    """
    from ..kernels import memory_kept

    if batch < 1:
        raise SettingError(f"The tile batch must be at least 1, got {batch}.")
    done = 0
    with memory_kept():
        while done < count:
            stop = min(done + batch, count)
            if _fits(run, done, stop, is_oom):
                done = stop
                if on_progress is not None:
                    on_progress(done, count)
            else:
                batch = (stop - done) // 2


def _fits(
    run: Callable[[int, int], None],
    start: int,
    stop: int,
    is_oom: Callable[[BaseException], bool],
) -> bool:
    """Run one batch and return whether it fitted into memory.

    The caller retries after this frame and the error's traceback, which hold the tensors of the
    failed attempt, are gone.
    """
    try:
        run(start, stop)
    except Exception as error:
        if not is_oom(error):
            raise
        if stop - start == 1:
            raise VARestorerError(
                "Out of memory with one tile at a time, the smallest possible amount. Close "
                "other programs that use the device, load the model in a smaller type (bf16), or "
                "run on the CPU."
            ) from error
        return False
    return True
