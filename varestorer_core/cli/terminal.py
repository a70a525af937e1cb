"""Output streams that never stop a run, whether closed, full or of any encoding.

A batch is worth more than its messages. Characters that cannot be encoded are escaped; once a stream cannot be written
to, its messages are dropped.
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
"""The reader closed its pipe, or the stream was closed, so no output is expected."""


class GuardedStream(io.TextIOBase):
    """Writes to a stream until that fails, then drops further output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: Exception | None = None
        if hasattr(stream, "reconfigure"):
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Encoding of the stream, by which tqdm chooses its characters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write or drop text."""
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
        """Return whether the stream is a terminal."""
        try:
            return self._stream.isatty()
        except ValueError:  # closed
            return False

    def fileno(self) -> int:
        """Return the descriptor, by which tqdm finds the width of the terminal."""
        return self._stream.fileno()

    @property
    def lost(self) -> bool:
        """Whether output was lost that the user expects, as on a full disk."""
        return isinstance(self.error, OSError) and self.error.errno not in _QUIET


@contextmanager
def guarded_output() -> Iterator[GuardedStream]:
    """Guard stdout and stderr, and replace those that are closed; yield the guard of stdout."""
    _occupy_closed()
    kept = sys.stdout, sys.stderr
    streams = [_Nowhere() if stream is None else stream for stream in kept]
    guards = [GuardedStream(stream) for stream in streams]
    sys.stdout, sys.stderr = guards  # pyright: ignore
    try:
        yield guards[0]
    finally:
        for guard, stream in zip(guards, streams, strict=True):
            guard.flush()
            if guard.error is not None:
                _silence(stream)
        sys.stdout, sys.stderr = kept


class _Nowhere(io.StringIO):
    """A closed stream, which Python represents as None: tqdm and others expect one."""

    def write(self, text: str) -> int:
        return len(text)


def _occupy_closed() -> None:
    """Open the null device in place of closed standard streams.

    Otherwise the next file that is opened, such as a result, gets the descriptor, and messages of libraries are
    written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor


def _silence(stream: TextIO) -> None:
    """Redirect a broken stream to the null device, or the interpreter would report it at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
