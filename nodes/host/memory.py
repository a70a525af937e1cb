"""The host's memory manager: patchers, tile batches that fit, out-of-memory errors, and returning memory."""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import torch

from ...varestorer_core.tiles.batching import is_out_of_memory, tiles_at_once

_MOMENT = 0.5
"""Seconds until an unreferenced model has freed its weights."""


def make_patcher(
    model: torch.nn.Module, load_device: torch.device, offload_device: torch.device
) -> Any:
    """Return the host's own kind of ModelPatcher around a model with loaded weights.

    When the host frees the model, its memory is returned to the system.
    """
    weakref.finalize(model, _give_back_soon).atexit = False
    # Looked up at call time, because the host replaces the class at startup.
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(model, load_device=load_device, offload_device=offload_device)


def give_back() -> None:
    """Return the memory that this process has freed to the system.

    Matrices are too small for separate memory mappings (up to 32 MiB in glibc), so they are on the heap, and glibc
    returns only its top to the system: gigabytes of freed weights would count as used.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _give_back_soon() -> None:
    # Runs while the model is being freed; its weights still exist.
    timer = threading.Timer(_MOMENT, give_back)
    timer.daemon = True
    timer.start()


def load_for_tiles(
    patcher: comfy.model_patcher.ModelPatcher,
    tile_bytes: int,
    tile_batch: int,
    *,
    tile: int,
    tiles: int | None = None,
    beside: comfy.model_patcher.ModelPatcher | None = None,
) -> int:
    """Load a model onto its device, free memory for tiles, and return the number of tiles to run at once.

    Args:
        tile_bytes: memory that one tile needs besides the weights.
        tile_batch: requested number of tiles; 0 means automatic: by the tile's size, and no more than fit.
        tile: side of a tile in pixels.
        tiles: total number of tiles, if known.
        beside: patcher of a second model that alternates with the first, or None. Both are loaded in one request, so
            that neither is unloaded for the other.
    """
    wanted = tiles_at_once(patcher.load_device, tile_batch, tile=tile)
    if tiles is not None:
        wanted = min(wanted, tiles)
    if beside is None:
        mm.load_models_gpu([patcher], memory_required=tile_bytes * wanted)
    else:  # an upscale model, whose layers the host cannot load in part
        both = [patcher, beside]
        mm.load_models_gpu(both, memory_required=tile_bytes * wanted, force_full_load=True)
    if tile_batch or wanted == 1:
        return wanted
    return max(1, min(wanted, int(_free_memory(patcher) // tile_bytes)))


def is_oom(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; never true for a cancelled run."""
    if isinstance(error, mm.InterruptProcessingException):
        return False
    if is_out_of_memory(error):
        return True
    # Without CUDA, OOM_EXCEPTION can be Exception itself: then the host's classification is meaningless.
    if mm.OOM_EXCEPTION is Exception:
        return False
    if hasattr(mm, "is_oom"):
        return bool(mm.is_oom(error))
    return isinstance(error, mm.OOM_EXCEPTION)


def _free_memory(patcher: comfy.model_patcher.ModelPatcher) -> float:
    """Return the free bytes on a device; newer ComfyUI versions count unloadable weights as free."""
    if hasattr(patcher, "get_free_memory"):
        return patcher.get_free_memory(patcher.load_device)
    return mm.get_free_memory(patcher.load_device)
