"""Resident memory of a process as Linux tells it, files that are mapped included."""

from __future__ import annotations

from pathlib import Path


def resident_bytes(process="self"):
    """Return what is resident now."""
    return _status(process, "VmRSS")


def peak_bytes(process="self"):
    """Return the most that was resident since `reset_peak`, else since the process began."""
    return _status(process, "VmHWM")


def reset_peak():
    """Let the peak of this process count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(process, name):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"the process {process} has ended.")
