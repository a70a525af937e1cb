"""Atomic file writes: files are written under a temporary name, then renamed.

An existing file survives a failure, a full disk and a killed process. A partial file of a killed process is removed by
the next process that starts and writes to the same path.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from .errors import VARestorerError
from .regular import real_path
from .wording import system_reason

_LONGEST_NAME = 255  # bytes, of one part of a path, on the usual file systems
_TEMPORARY = re.compile(r"\.(.+)\.(\d+)-[0-9a-f]{8}\.tmp", re.DOTALL)
_STARTED = time.time()
"""When this process loaded this module, before it wrote anything."""
_ABANDONED_AFTER = 24 * 3600
"""Seconds until the file of a process of unknown state counts as abandoned."""


@contextmanager
def atomic_file(
    path: str | Path, num_bytes: int = 0, error: type[VARestorerError] = VARestorerError
) -> Iterator[BinaryIO]:
    """Open a file for writing that is renamed to its final name only on success.

    The data first goes to a hidden file in the same folder, because renaming is atomic only within one file system. The
    permissions of a replaced file are kept, and symbolic links are preserved.

    Args:
        path: final name.
        num_bytes: expected size; an error is raised immediately if it does not fit.
        error: class of the raised errors.

    Raises:
        VARestorerError: for a folder that does not exist or cannot be written, a file that is write-protected, or a
            full disk.
    """
    path = Path(path)
    target = path
    temporary: Path | None = None
    try:
        target = real_path(path) if path.is_symlink() else path
        mode = _mode(target)
        _check_space(target, num_bytes)
        remove_abandoned(target)
        temporary = target.with_name(_temporary_name(target.name))
        with temporary.open("xb") as file:
            yield file
            file.flush()
            # Otherwise the new name could reach the disk before the data.
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except OSError as problem:
        raise error(_write_problem(path, num_bytes, problem)) from problem
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_atomically(
    path: str | Path, content: bytes | memoryview, error: type[VARestorerError] = VARestorerError
) -> None:
    """Write `content` as the whole of a file; see `atomic_file`."""
    with atomic_file(path, len(content), error) as file:
        file.write(content)


def reserve(path: Path) -> None:
    """Allocate disk space for a memory-mapped file.

    Writing to a hole of a sparse file kills the process (SIGBUS) if the disk is full.

    Raises:
        VARestorerError: if there is not enough room; the file is removed.
    """
    size = path.stat().st_size
    try:
        _check_space(path, size)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as problem:
        if problem.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # not supported by the file system
            return
        path.unlink(missing_ok=True)
        raise VARestorerError(_write_problem(path, size, problem)) from problem


def remove_abandoned(path: Path) -> None:
    """Remove the temporary files that killed processes left while they wrote to `path`."""
    with suppress(OSError):
        for entry, pid in _temporary_files(path.parent.absolute()).get(_stem(path.name), ()):
            with suppress(OSError):
                if _is_abandoned(entry, pid):
                    entry.unlink()


@lru_cache(maxsize=64)
def _temporary_files(folder: Path) -> dict[str, list[tuple[Path, int]]]:
    """Return the temporary files of a folder and their processes by the names that they were written for.

    A process lists a folder only once, before its first write there: listing a folder of many files takes longer than
    writing a file.
    """
    found: dict[str, list[tuple[Path, int]]] = {}
    for entry in folder.iterdir():
        if (match := _TEMPORARY.fullmatch(entry.name)) is not None:
            found.setdefault(match[1], []).append((entry, int(match[2])))
    return found


def _temporary_name(name: str) -> str:
    return f".{_stem(name)}.{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _stem(name: str) -> str:
    """Return the name, or a substitute if it is too long for a suffix."""
    if len(os.fsencode(name)) + 32 <= _LONGEST_NAME:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _is_abandoned(entry: Path, pid: int) -> bool:
    """Return whether the process that created a temporary file has ended."""
    written = entry.stat().st_mtime
    if pid == os.getpid():
        # In containers, every run may have the same id. Files that this process writes are not older than it.
        return written < _STARTED or time.time() - written > _ABANDONED_AFTER
    if os.name == "posix":
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            pass  # it exists and belongs to another user
    # Process ids are reused, and other machines may share the folder.
    return time.time() - written > _ABANDONED_AFTER


def _mode(path: Path) -> int | None:
    """Return the permissions of the file to replace; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it exists and is not a regular file")
    if not found.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EACCES, "the file there is write-protected")
    return stat.S_IMODE(found.st_mode)


def _check_space(path: Path, num_bytes: int) -> None:
    if num_bytes and shutil.disk_usage(path.parent).free < num_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write_problem(path: Path, num_bytes: int, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        need = f" It needs {num_bytes / 1e9:.2f} GB." if num_bytes > 1e7 else ""
        return f"{path} was not written: the disk is full.{need} Free some space or choose another."
    if error.errno == errno.ELOOP:
        return f"{path} was not written: {system_reason(error)}."
    if error.errno not in (errno.EACCES, errno.ENAMETOOLONG) and not path.parent.is_dir():
        return f"{path} was not written: the folder {path.parent} does not exist."
    refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    advice = " Choose a place that you may write to." if refused else ""
    return f"{path} was not written: {error.strerror or error}.{advice}"
