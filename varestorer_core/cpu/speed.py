"""Kernel selection by timing: the faster of this package's and PyTorch's kernel runs.

Both kernels are timed in turn on a small sample when a path is first reached, and ours is used if it is clearly faster.
The decisions are stored in the user's cache folder by processor, PyTorch version and number of threads: timing is
noisy, and the command and ComfyUI must compute the same pixels on a machine at any time. Without a writable folder the
decisions last as long as the process.

Blocks of rows and strips of feature maps are chosen by size instead. They run the same kernels with the same
multiplications and save traffic between cache and memory. A sample that is quick enough to be timed does not show this:
strips are slower in the cache and faster beyond it (`benchmarks/blocks.py` measures both). So only inputs beyond a
core's cache are split. Reused memory replaces allocations and changes no computation.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import RLock

import torch

from .. import json_text
from ..atomic import write_atomically
from ..errors import VARestorerError
from .switch import mode

Trial = Callable[[], object]
"""Runs a kernel once on a sample."""

VERSION = 5
"""Increment when a path or its sample changes, so that everything is timed again."""

_MARGIN = 0.9
"""Ours must take less than this fraction of PyTorch's time; ties and noise favour PyTorch."""
_SHARE = 0.01
"""Seconds for timing one path."""
_BUDGET = 0.2
"""Seconds for all paths of one process. Paths reached later use PyTorch's kernel without timing."""
_REPEATS = 12
"""Runs of each kernel in a round, at most."""
_ROUNDS = 2
"""Both kernels are compared this many times, and ours has to be faster each time: the decision is stored, and another
program that interrupts every run of one kernel would otherwise make it wrong for good."""

_ratios: dict[str, float | None] = {}
"""Our time relative to PyTorch's for each path; None if it was not timed."""
_spent = 0.0
_lock = RLock()  # a trial may query another path


def is_faster(path: str, sample: str, trials: Callable[[], tuple[Trial, Trial]]) -> bool:
    """Return whether to use our kernel for a path on inputs like the sample's.

    Args:
        path: name of the decision.
        sample: what the decision depends on, such as dtype and width; with `path`, the key.
        trials: builds the sample and returns our kernel and PyTorch's on it.
    """
    if mode() == "all":
        return True
    key = f"{path}, {sample}, threads: {torch.get_num_threads()}"
    with _lock:
        if key not in _ratios:
            _ratios[key] = _ratio(key, trials)
        return _is_ours(_ratios[key])


def name_of(dtype: torch.dtype) -> str:
    """Return the short name of a dtype."""
    return str(dtype).removeprefix("torch.")


def ramp(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return sample values between -1 and 1, without using the global random state."""
    return torch.linspace(-1, 1, math.prod(shape)).view(shape).to(dtype)


def power_of_two(size: int) -> int:
    """Return the smallest power of two of at least a size, so that similar sizes share a decision."""
    return 1 << max(0, size - 1).bit_length()


def choices() -> dict[str, dict[str, object]]:
    """Return the decisions of this process by path: the kernel that runs, and our time relative to PyTorch's.

    The time is None for a path that was not timed.
    """
    return {
        key: {
            "kernel": "ours" if _is_ours(ratio) else "PyTorch",
            "time_ratio": None if ratio is None else round(ratio, 3),
        }
        for key, ratio in sorted(_ratios.items())
    }


def _is_ours(ratio: float | None) -> bool:
    return ratio is not None and ratio < _MARGIN


def _ratio(key: str, trials: Callable[[], tuple[Trial, Trial]]) -> float | None:
    """Return our time relative to PyTorch's, stored or measured; None if there is no time left to measure it."""
    global _spent
    known = _read().get(_machine(), {})
    if key in known:
        return known[key]
    clock = _clock()
    started = clock()
    ratio = _keep(key, _measure(*trials()) if _spent < _BUDGET else None)
    _spent += clock() - started
    return ratio


def _clock() -> Callable[[], float]:
    """Return the clock: of this thread if it works alone, since other programs then do not count."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def _measure(ours: Trial, theirs: Trial) -> float:
    """Return the largest ratio of several rounds, each of the shortest times of two functions, timed in turn."""
    with torch.inference_mode():
        ours()  # warm-up
        theirs()
        return max(_round(ours, theirs) for _ in range(_ROUNDS))


def _round(ours: Trial, theirs: Trial) -> float:
    clock = _clock()
    best = [float("inf"), float("inf")]
    started = clock()
    for repeat in range(_REPEATS):
        if repeat > 0 and clock() - started > _SHARE / _ROUNDS:
            break
        for way, work in enumerate((ours, theirs)):
            begun = clock()
            work()
            best[way] = min(best[way], clock() - begun)
    return best[0] / max(best[1], 1e-9)


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return what decisions depend on besides threads: processor, instruction set, PyTorch, and this package."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            name = next(
                (line.split(":")[1].strip() for line in lines if "model name" in line), name
            )
        except OSError:
            pass
    instructions = (
        os.environ.get("ONEDNN_MAX_CPU_ISA", "") or torch.backends.cpu.get_cpu_capability()
    )
    return f"{name}, {instructions}, torch {torch.__version__}, version {VERSION}"


def cache_file() -> Path:
    """Return the file of the decisions: in XDG_CACHE_HOME, on Windows LOCALAPPDATA, otherwise ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    if not base or not Path(base).is_absolute():  # ignored, by the XDG Base Directory Specification
        base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    return Path(base or Path.home() / ".cache") / "varestorer" / "cpu-kernels.json"


def _read() -> dict[str, dict[str, float | None]]:
    """Return the stored ratios by machine and key. Whatever is not one is left out, and timed again."""
    try:
        known = json_text.read(cache_file())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder
        return {}
    machines = known.items() if isinstance(known, dict) else ()
    return {
        machine: {key: ratio for key, ratio in ratios.items() if _is_ratio(ratio)}
        for machine, ratios in machines
        if isinstance(ratios, dict)
    }


def _is_ratio(value: object) -> bool:
    return value is None or (isinstance(value, float | int) and not isinstance(value, bool))


def _keep(key: str, ratio: float | None) -> float | None:
    """Write a decision, unless another process has written one in the meantime, and return the valid one."""
    known = _read()
    ratio = known.setdefault(_machine(), {}).setdefault(key, ratio)
    try:
        file = cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(known, indent=1).encode())
    except (OSError, RuntimeError, VARestorerError):
        pass
    return ratio
