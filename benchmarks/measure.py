"""Helpers of the other benchmarks: time, the machine's matrix rate, peak memory, and a test picture."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def clock(device):
    """Return seconds: processor time on a CPU, which excludes other programs, else wall-clock time."""
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_rate(device, dtype, side=2048, repeats=3):
    """Return the best FLOP/s of square matrix products in one dtype."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        started = clock(device)
        a @ b
        best = min(best, clock(device) - started)
    return 2 * side**3 / best


class Stages:
    """Adds up the seconds of named stages, by `clock` and by the wall clock."""

    def __init__(self, device):
        self.device = device
        self.seconds, self.wall, self.calls = {}, {}, {}

    def timed(self, name, work):
        """Return a function that runs `work` and adds its time to `name`."""

        def run(*args, **kwargs):
            begun, used = time.perf_counter(), clock(self.device)
            result = work(*args, **kwargs)
            used = clock(self.device) - used
            self.seconds[name] = self.seconds.get(name, 0.0) + used
            self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - begun
            self.calls[name] = self.calls.get(name, 0) + 1
            return result

        return run

    def take_away(self, name, *parts):
        """Subtract from `name` the time of the parts that ran inside it."""
        for part in parts:
            self.seconds[name] -= self.seconds.get(part, 0.0)
            self.wall[name] -= self.wall.get(part, 0.0)


def picture(height, width):
    """Return smooth noise (3, H, W) in [0, 1]."""
    torch.manual_seed(0)
    small = torch.rand(1, 3, max(2, height // 16), max(2, width // 16))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]


def forget_peaks(device):
    """Reset the peaks, if the system supports it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5")


def peak_memory(device):
    """Return the peak resident bytes of the program and the peak bytes on a GPU, or None."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        host = int(line.split()[1]) * 1024
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return host, on_device


def resident_memory():
    """Return the resident bytes of the program; 0 if the system does not report them."""
    file = Path("/proc/self/statm")
    return int(file.read_text().split()[1]) * resource.getpagesize() if file.exists() else 0
