"""Camera raw files by rawpy, where it is installed; their embedded previews are never taken for the picture.

LibRaw, which rawpy uses, continues if the data are damaged and only reports it on stderr; with its many formats, a
damaged file may also end the process. It therefore runs in a separate process (`raw_process`), whose messages and exit
status become a note or an error here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import ImageError
from .opening import check_size
from .samples import Samples

_EXPORT = "Export a TIFF or PNG from your raw program."
_PROGRAM = Path(__file__).with_name("raw_process.py")


def read(path: Path) -> Samples:
    """Develop a camera raw file with the camera's white balance to upright sRGB with 16 bits.

    Raises:
        ImageError: without rawpy, or for a file that it cannot develop.
        MemoryError: if there is not enough memory.
    """
    if find_spec("rawpy") is None:
        raise ImageError(
            f"{path} is a camera raw file. Install rawpy (pip install rawpy), or export a "
            "TIFF or PNG from your raw program."
        )
    with tempfile.TemporaryFile() as messages:
        command = [sys.executable, str(_PROGRAM), str(path.absolute())]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages
        )
        with process:
            try:
                color, reason = _developed(process, path)
            except BaseException:
                process.kill()
                raise
        messages.seek(0)
        said = messages.read().decode("utf-8", "replace")
    if color is None:
        raise ImageError(
            f"{path} is a camera raw file that rawpy cannot develop ({reason or _end(process, said)}). {_EXPORT}"
        )
    if "Unexpected end of file" in said:
        raise ImageError(
            f"{path} is a camera raw file that ends too early: a part of the picture is missing. Copy it again."
        )
    notes = ["is a camera raw file, developed by rawpy"]
    if "data corrupted" in said:
        notes.append("has damaged data, so parts of the picture may be wrong")
    return Samples(color, bit_depth=16, notes=notes, converted=True, page=None)


def _developed(process: subprocess.Popen[bytes], path: Path) -> tuple[np.ndarray | None, str]:
    """Return the developed picture, or None and the message of rawpy."""
    assert process.stdin is not None
    assert process.stdout is not None
    answer = _answer(process.stdout)
    if "width" in answer:
        check_size(path, answer["width"], answer["height"])
        with suppress(OSError):  # it ended, and its last message is the reason
            process.stdin.write(b"\n")
            process.stdin.close()
        answer = _answer(process.stdout)
    if answer.get("error") == "memory":
        raise MemoryError
    if "shape" not in answer:
        return None, str(answer.get("error", ""))
    color = np.empty(answer["shape"], np.uint16)
    whole = color.reshape(-1).view(np.uint8).data
    done = 0
    while count := process.stdout.readinto(whole[done:]):  # pyright: ignore[reportAttributeAccessIssue]
        done += count
    return (color, "") if done == color.nbytes else (None, "")


def _answer(stream: IO[bytes]) -> dict[str, Any]:
    """Return the next message of the program; empty if it ended."""
    line = stream.readline()
    return json.loads(line) if line.endswith(b"\n") else {}


def _end(process: subprocess.Popen[bytes], said: str) -> str:
    """Return how a process ended that developed nothing."""
    if process.returncode < 0:
        return f"its decoder was ended by signal {-process.returncode}"
    return (said.strip().splitlines() or ["no reason given"])[-1]
