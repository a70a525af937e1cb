"""Kernel selection by timing: the faster of this package's and PyTorch's kernel runs.

Both kernels are timed in turn on a small sample when a path is first reached, and ours is used if it is clearly faster.
The decisions are stored in the user's cache folder by processor, PyTorch version and number of threads: timing is
noisy, and the command and ComfyUI must compute the same pixels on a machine at any time. Without a writable folder the
decisions last as long as the process.

Changes of memory layout (rows, strips, reused memory) are not timed, because they pay off only at full size.
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

from ..atomic import write_atomically
from ..errors import VARestorerError
from .switch import mode

Trial = Callable[[], object]
"""Runs a kernel once on a sample."""

VERSION = 1
"""Increment when a path or its sample changes, so that everything is timed again."""

_MARGIN = 0.95
"""Ours must take less than this fraction of PyTorch's time; ties and noise favour PyTorch."""
_SHARE = 0.006
"""Seconds for timing one path."""
_BUDGET = 0.2
"""Seconds for all paths of one process. Paths reached later use PyTorch's kernel without timing."""
_REPEATS = 25

_UNTIMED = 1.0
_ratios: dict[str, float] = {}
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
    return _ratio(f"{path}, {sample}", trials) < _MARGIN


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
    """Return the decisions of this process: for each path, the kernel that runs and our time relative to PyTorch's."""
    return {
        key: {"kernel": "ours" if ratio < _MARGIN else "PyTorch", "time_ratio": round(ratio, 3)}
        for key, ratio in sorted(_ratios.items())
    }


def _ratio(path: str, trials: Callable[[], tuple[Trial, Trial]]) -> float:
    """Return our time relative to PyTorch's, stored or measured."""
    global _spent
    key = f"{path}, threads: {torch.get_num_threads()}"
    with _lock:
        if key not in _ratios:
            known = _read().get(_machine(), {}).get(key)
            if known is None:
                started = time.process_time()
                known = _keep(key, _measure(*trials()) if _spent < _BUDGET else _UNTIMED)
                _spent += time.process_time() - started
            _ratios[key] = known
        return _ratios[key]


def _measure(ours: Trial, theirs: Trial) -> float:
    """Return the ratio of the shortest times of two functions, timed in turn."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = [float("inf"), float("inf")]
    with torch.inference_mode():
        ours()  # warm-up
        theirs()
        started = clock()
        for repeat in range(_REPEATS):
            if repeat > 0 and clock() - started > _SHARE:
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
    base = os.environ.get("XDG_CACHE_HOME") or (
        os.environ.get("LOCALAPPDATA") if os.name == "nt" else None
    )
    return Path(base or Path.home() / ".cache") / "varestorer" / "cpu-kernels.json"


def _read() -> dict[str, dict[str, float]]:
    try:
        known = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder
        return {}
    return known if isinstance(known, dict) else {}


def _keep(key: str, ratio: float) -> float:
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
