"""The record of a run, one JSON line a picture: what was made of what, by which settings, or why not.

A line is appended before its result takes its final name, so a run that is killed at any moment can be continued: a
picture is done if a line has its content, the same settings and the same result, and the result has the content that
the line says. Nothing goes by names or dates alone.

Fields: `input` (path), `hash` (SHA-256 of its content), `settings` (all that decides the pixels), `result` (path),
`result_hash`, `width`, `height`, `seconds`, `error` (null, or a sentence), `notes`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import json_text
from ..errors import VARestorerError
from . import UsageError
from .remote import RemotePath, is_uri, path_of

FILE_NAME = ".varestorer-manifest.jsonl"
"""In the folder of the results, unless another file is asked for."""
_BLOCK = 1 << 20


@dataclass
class Record:
    """One picture of a run; see the module for the fields."""

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
        """Return the record as JSON, in ASCII whatever the names are."""
        return json.dumps(asdict(self), sort_keys=True)


class Manifest:
    """A file of records, read once and appended to."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier run recorded; a last line that was cut off counts as not there.

        Raises:
            VARestorerError: if the file cannot be read.
        """
        self.path = path
        self._done: dict[tuple[str, str, str], str] = {}
        self._by_result: dict[tuple[str, ...], dict[str, str]] | None = None
        try:
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
        """Tell whether the result of a record, whose `hash` is known, is there already."""
        wanted = self._done.get(self._key(asdict(record)))
        if wanted is None:
            return False
        try:
            return file_hash(Path(record.result)) == wanted
        except OSError:
            return False

    def known(self, record: Record) -> dict[str, str]:
        """Return the result hashes that are recorded for the settings and the result of a record, by source hash."""
        if self._by_result is None:
            self._by_result = {}
            for (source, *rest), result in self._done.items():
                self._by_result.setdefault(tuple(rest), {})[source] = result
        _, *rest = self._key(asdict(record))
        return self._by_result.get(tuple(rest), {})

    def append(self, record: Record) -> None:
        """Add a record and bring it to the disk.

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
        """Return what a result depends on; results are named from the manifest, so that a folder may move."""
        result = record["result"]
        if not is_uri(result):
            result = os.path.relpath(result, self.path.parent)
        return record["hash"], json.dumps(record["settings"], sort_keys=True), result


def run_manifest(args: argparse.Namespace, first: Path) -> Manifest | None:
    """Return the record that the options of a run ask for; to skip what is done, one is needed.

    Args:
        first: the first result.

    Raises:
        UsageError: if there is no place for it.
    """
    if args.manifest is not None:
        return Manifest(Path(args.manifest))
    if not args.skip_existing:
        return None
    output = path_of(args.output)
    if isinstance(output, RemotePath):
        raise UsageError(
            "--skip-existing needs --manifest FILE where the results go to an object store: its records are "
            "appended to a local file."
        )
    return Manifest((output if output.is_dir() else first.parent) / FILE_NAME)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_mark(path: str | Path | None) -> str | None:
    """Return what tells a large file from another without reading all of it: of its size, start, middle and end."""
    if path is None:
        return None
    path = Path(path)
    if path.is_dir():
        inner = [f"{p.name}:{file_mark(p)}" for p in sorted(path.iterdir()) if p.is_file()]
        return hashlib.sha256("\n".join(inner).encode()).hexdigest()[:16]
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for place in (0, size // 2, max(0, size - _BLOCK)):
            file.seek(place)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]
