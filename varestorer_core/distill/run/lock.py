"""One process per run folder: two would overwrite each other's states and logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import SettingError
from ...regular import check_regular


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for a `with` block. The system releases the lock when the process ends in any way.

    Raises:
        SettingError: if another process holds the lock, or it is not a regular file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    check_regular(lock, SettingError)
    with lock.open("a+b") as file:
        try:
            _lock(file.fileno())
        except OSError as error:
            raise SettingError(
                f"The run in {folder} is in use by another process. Wait for it to end, or choose another --out."
            ) from error
        yield


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
