"""The manifest of a run, one JSON line per picture: source, settings and result, or the error.

A line is appended before its result is renamed to its final name, so a run that is killed at any moment can be
continued: a picture is done if a line has its content, the same settings and the same result, and the result has the
content recorded in the line. Names and dates alone are never trusted.

Fields: `input` (path), `hash` (SHA-256 of its content), `settings` (all that determines the pixels), `result` (path),
`result_hash`, `width`, `height`, `seconds`, `error` (null, or a sentence), `notes`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import json_text
from ..errors import VARestorerError
from ..lora.scaling import peft_config
from ..regular import check_regular
from . import UsageError
from .remote import RemotePath, is_uri, path_of

FILE_NAME = ".varestorer-manifest.jsonl"
"""Default name, in the folder of the results."""
_BLOCK = 1 << 20


@dataclass
class Record:
    """Record of one picture; see the module for the fields."""

    input: str
    settings: dict[str, Any]
    result: str
    hash: str | None = None
    result_hash: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float = 0.0
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the record as JSON in ASCII."""
        return json.dumps(asdict(self), sort_keys=True)


class Manifest:
    """A file of records, read once and appended to."""

    def __init__(self, path: Path) -> None:
        """Read the records of earlier runs; an incomplete last line is ignored.

        Raises:
            VARestorerError: if the file cannot be read.
        """
        self.path = path
        self._done: dict[tuple[str, str, str], str] = {}
        self._by_result: dict[tuple[str, ...], dict[str, str]] | None = None
        try:
            check_regular(path)
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        except OSError as error:
            raise VARestorerError(f"{path} cannot be read: {error.strerror or error}.") from error
        for line in lines:
            try:
                record = json_text.loads(line)
                if record["error"] is None and record["result_hash"]:
                    self._done[self._key(record)] = record["result_hash"]
            except (ValueError, LookupError, TypeError):
                continue

    def is_done(self, record: Record) -> bool:
        """Return whether the result of a record with a `hash` already exists; if so, set its `result_hash`."""
        wanted = self._done.get(self._key(asdict(record)))
        if wanted is None:
            return False
        try:
            found = file_hash(Path(record.result))
        except (OSError, VARestorerError):
            return False
        if found == wanted:
            record.result_hash = found
        return found == wanted

    def known(self, record: Record) -> dict[str, str]:
        """Return the recorded result hashes for the settings and the result of a record, by source hash."""
        if self._by_result is None:
            self._by_result = {}
            for (source, *rest), result in self._done.items():
                self._by_result.setdefault(tuple(rest), {})[source] = result
        _, *rest = self._key(asdict(record))
        return self._by_result.get(tuple(rest), {})

    def append(self, record: Record) -> None:
        """Append a record and sync it to the disk.

        Raises:
            VARestorerError: if that fails.
        """
        line = record.line().encode()
        try:
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # a run was killed while it wrote
                        line = b"\n" + line
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise VARestorerError(
                f"{self.path} cannot be written: {error.strerror or error}."
            ) from error

    def _key(self, record: dict[str, Any]) -> tuple[str, str, str]:
        """Return what a result depends on; paths are relative to the manifest, so that the folder can be moved."""
        result = record["result"]
        if not is_uri(result):
            result = os.path.relpath(result, self.path.parent)
        return record["hash"], json.dumps(record["settings"], sort_keys=True), result


def run_manifest(args: argparse.Namespace, first: Path) -> Manifest | None:
    """Return the manifest for the options of a run; --skip-existing always uses one.

    Args:
        first: the first result.

    Raises:
        UsageError: if the results go to an object store and no file is specified, or if the file is not a manifest
            or cannot be written.
    """
    if args.manifest is not None:
        if is_uri(args.manifest):
            raise UsageError(f"--manifest {args.manifest}: expected a local file.")
        path = Path(args.manifest)
        _check_place(path)
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                if file.read(1) != b"{":
                    raise UsageError(
                        f"--manifest {path} is not a manifest, and records would be appended to it. Choose another "
                        "file."
                    )
        return Manifest(path)
    if not args.skip_existing:
        return None
    output = path_of(args.output)
    if isinstance(output, RemotePath):
        raise UsageError(
            "--skip-existing needs --manifest FILE if the results go to an object store, because records are "
            "appended to a local file."
        )
    path = (output if output.is_dir() else first.parent) / FILE_NAME
    _check_place(path)
    return Manifest(path)


def _check_place(path: Path) -> None:
    """Raise an error before any work if records cannot be appended to a file.

    Raises:
        UsageError: if the path is a folder, its folder does not exist, or writing is not permitted.
    """
    if path.is_dir():
        raise UsageError(f"The manifest {path} is a folder. Specify a file after --manifest.")
    check_regular(path, UsageError)
    if not path.parent.is_dir():
        raise UsageError(
            f"The manifest {path} cannot be written: the folder {path.parent} does not exist."
        )
    try:
        if path.is_file():
            with path.open("ab"):
                pass
        elif not path.exists():
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        raise UsageError(
            f"The manifest {path} cannot be written: {error.strerror or error}. Choose another file after --manifest."
        ) from error


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        VARestorerError: if it is not a regular file.
    """
    check_regular(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_mark(path: str | Path | None) -> str | None:
    """Return a fingerprint of a large file from its size, start, middle and end."""
    if path is None:
        return None
    path = Path(path)
    if path.is_dir():
        inner = [f"{p.name}:{file_mark(p)}" for p in sorted(path.iterdir()) if p.is_file()]
        return hashlib.sha256(os.fsencode("\n".join(inner))).hexdigest()[:16]
    check_regular(path)
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in (0, size // 2, max(0, size - _BLOCK)):
            file.seek(place)
            digest.update(file.read(_BLOCK))
    for text in peft_config(path).values():  # which scales the factors
        digest.update(text.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
