"""Output streams that never stop a run: closed, full, of any encoding.

A batch is worth more than its messages. What cannot be encoded is escaped; once a stream cannot be written to, its
messages are dropped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_QUIET = (errno.EPIPE, errno.EBADF)
"""The reader went away, or the stream was closed: nothing to tell, and nobody to tell it to."""


class GuardedStream(io.TextIOBase):
    """Writes to a stream until that fails, then drops what comes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: Exception | None = None
        if hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the stream; tqdm chooses its characters by it."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write, or drop, text."""
        if self.error is None:
            try:
                self._stream.write(text)
            except UnicodeError:
                self._stream.write(text.encode("ascii", "backslashreplace").decode())
            except (OSError, ValueError) as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Flush, if the stream still works."""
        if self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.error = error

    def isatty(self) -> bool:
        """Tell whether a person watches."""
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Return the descriptor; tqdm asks for the width of the terminal."""
        return self._stream.fileno()

    @property
    def lost(self) -> bool:
        """Whether output was lost that somebody waits for, as on a full disk."""
        return isinstance(self.error, OSError) and self.error.errno not in _QUIET


@contextmanager
def guarded_output() -> Iterator[GuardedStream | None]:
    """Put guards before stdout and stderr; yield that of stdout, None where there is no stdout."""
    kept = sys.stdout, sys.stderr
    guards = [None if stream is None else GuardedStream(stream) for stream in kept]
    sys.stdout, sys.stderr = guards  # pyright: ignore
    try:
        yield guards[0]
    finally:
        for guard, stream in zip(guards, kept, strict=True):
            if guard is not None:
                guard.flush()
                if guard.error is not None:
                    _silence(stream)
        sys.stdout, sys.stderr = kept


def _silence(stream: TextIO) -> None:
    """Point a broken stream nowhere, or the interpreter would complain about it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
