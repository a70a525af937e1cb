"""Parsing of untrusted JSON: any problem is raised as a ValueError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: if it is not JSON, or nested too deeply, for which `json` raises RecursionError.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        ValueError: if it is not JSON.
        OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait for a writer
        raise ValueError("it is a folder, a pipe or a device")
    return loads(path.read_text("utf-8"))
