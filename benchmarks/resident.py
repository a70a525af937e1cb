"""Resident memory of a process on Linux, including mapped files."""

from __future__ import annotations

from pathlib import Path


def resident_bytes(process="self"):
    """Return the current resident memory."""
    return _status(process, "VmRSS")


def peak_bytes(process="self"):
    """Return the peak of resident memory since `reset_peak`, or since the process started."""
    return _status(process, "VmHWM")


def reset_peak():
    """Reset the peak of this process."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(process, name):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"The process {process} has ended.")
