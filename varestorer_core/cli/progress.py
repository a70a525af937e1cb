"""Progress bar for a whole run: pictures, megapixels per second and the remaining time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from ..wording import shown

_FORMAT = (
    "{desc}{percentage:3.0f}%|{bar}| {n:.0f}/{total} pictures [{elapsed}<{remaining}{postfix}]"
)


class RunBar:
    """Shows the progress of a run, including the steps of unfinished pictures."""

    def __init__(self, total: int) -> None:
        # disable=None: no bar in a file or a pipe.
        self._bar = tqdm(
            total=total, leave=False, bar_format=_FORMAT, mininterval=0.2, disable=None
        )
        self._parts: dict[str, float] = {}
        self._done = 0
        self._pixels = 0
        self._started = time.perf_counter()

    def step(self, name: str, done: int, total: int) -> None:
        """Show the progress of a picture."""
        self._parts[name] = done / max(total, 1)
        self._bar.set_description_str(f"{shown(name)}: ", refresh=False)
        self._show()

    def finished(self, name: str, pixels: int) -> None:
        """Count a picture and the pixels of its result."""
        self._parts.pop(name, None)
        self._done += 1
        self._pixels += pixels
        rate = self._pixels / 1e6 / max(time.perf_counter() - self._started, 1e-9)
        self._bar.set_postfix_str(f"{rate:.3g} MP/s", refresh=False)
        self._show()

    def print(self, text: str, stream: TextIO) -> None:
        """Print a line above the bar."""
        with tqdm.external_write_mode(file=stream):
            print(text, file=stream, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _show(self) -> None:
        # Called from the threads of several devices.
        now = self._done + sum(list(self._parts.values()))
        with self._bar.get_lock():
            self._bar.update(max(0, min(now, self._bar.total) - self._bar.n))


@contextmanager
def run_bar(total: int) -> Iterator[RunBar]:
    """Show a bar within a block."""
    bar = RunBar(total)
    try:
        yield bar
    finally:
        bar.close()


def print_line(bar: RunBar | None, text: str, *, error: bool = False) -> None:
    """Print a line on stdout or stderr, above the bar if there is one."""
    stream = sys.stderr if error else sys.stdout
    if bar is None:
        print(text, file=stream, flush=True)
    else:
        bar.print(text, stream)
