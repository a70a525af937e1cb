"""Early stops of training by Ctrl-C, SIGTERM or a time limit, after saving."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import VARestorerError

_log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal, and its state has been saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


class DeadlineError(VARestorerError):
    """The time limit was reached before training began; what was drawn until then has been saved."""


class StopRequest:
    """Whether training should stop after the current step."""

    def __init__(self, deadline: float | None = None):
        """Start without a request.

        Args:
            deadline: value of `time.monotonic()` at which training should stop.
        """
        self.deadline = deadline
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None or has_passed(self.deadline)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM as requests; a second one ends the program immediately."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, _: FrameType | None) -> None:
            self.signal_number = number
            _log.warning("stopping after this step and saving; a second signal stops immediately")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def has_passed(deadline: float | None) -> bool:
    """Return whether a value of `time.monotonic()` has been reached; None is never reached."""
    return deadline is not None and time.monotonic() >= deadline


def check_time(deadline: float | None, done: int, total: int) -> None:
    """Raise an error if a deadline has passed while pictures are drawn.

    Raises:
        DeadlineError: naming how many of them are drawn.
    """
    if has_passed(deadline):
        raise DeadlineError(
            f"The time limit was reached after {done} of {total} pictures had been drawn. They are saved; the same "
            "command continues."
        )
