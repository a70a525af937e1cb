"""Files from outside are opened only if they are regular: reading a pipe waits for a writer, a device may never end."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import VARestorerError


def check_regular(path: Path, error: type[VARestorerError] = VARestorerError) -> None:
    """Reject a path that exists and is not a regular file; one that does not exist passes.

    Args:
        path: the path, which may be a link.
        error: class of the raised errors.

    Raises:
        VARestorerError: for a folder, a pipe, a socket or a device.
        OSError: if the system refuses to look.
    """
    if path.is_dir():
        raise error(f"{path} is a folder; expected a file.")
    if path.exists() and not path.is_file():
        raise error(f"{path} is a pipe or a device; expected a file.")


def real_path(path: str | Path) -> Path:
    """Return an absolute path without links, as far as they lead anywhere.

    `Path.resolve` raises RuntimeError for a link to itself before Python 3.13; opening the path says what is wrong.
    """
    return Path(os.path.realpath(path))
