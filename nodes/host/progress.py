"""The host's progress bar and cancel button behind the core's `on_progress` callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management as mm
import comfy.utils


class Progress:
    """Callable with (done, total): updates the bar, and raises an exception if the run was cancelled."""

    def __init__(self) -> None:
        mm.throw_exception_if_processing_interrupted()
        self._bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int, preview: Any = None) -> None:
        """Update the bar and show a preview tuple of the host: (format, image, longest side)."""
        mm.throw_exception_if_processing_interrupted()
        bar = self._bar = self._bar or comfy.utils.ProgressBar(total)
        bar.update_absolute(done, total, preview)

    def part(self, index: int, parts: int) -> Callable[..., None]:
        """Return a callback for one of several parts of equal length that share the bar."""

        def on_progress(done: int, total: int, preview: Any = None) -> None:
            self(index * total + done, parts * total, preview)

        return on_progress
