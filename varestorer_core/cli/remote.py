"""Pictures in object stores, by URI (s3://, gs://, ...), using the file systems of pyarrow, which comes with Ray.

A picture is copied to a temporary folder, processed like a local file, and its result is copied back. Object stores
only show complete objects, so a result is complete or absent.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path, PosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import ImageError
from . import UsageError

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://?")


class RemotePath(PosixPath):
    """The URI of an object, with the operations of a path: names, extensions, parents. It does not open anything."""

    def __str__(self) -> str:
        """Return the URI, whose second slash `PosixPath` removes."""
        return _SCHEME.sub(r"\1://", super().__str__(), count=1)

    def __fspath__(self) -> str:
        return str(self)

    def absolute(self) -> RemotePath:
        """Return itself, since a URI has no working directory."""
        return self

    def resolve(self, strict: bool = False) -> RemotePath:  # noqa: ARG002
        """Return itself, since object stores have no links."""
        return self


def is_uri(text: str) -> bool:
    """Return whether a text is a URI: a scheme of two or more letters (unlike a drive of Windows), then `://`."""
    return "://" in text and _SCHEME.match(text) is not None


def path_of(text: str) -> Path:
    """Return the path of a file name or URI; `file://` URIs are local paths.

    Raises:
        UsageError: on Windows, for a URI of an object store.
    """
    if not is_uri(text):
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    try:
        return RemotePath(text)
    except NotImplementedError as error:
        raise UsageError(f"{text}: object stores are only supported on Linux and macOS.") from error


def walk(place: RemotePath, recursive: bool) -> Iterator[tuple[RemotePath, Path]]:
    """Yield an object, or those of a prefix in the order of their names, with their folder below the prefix.

    Raises:
        UsageError: if there is nothing, or the store rejects the request.
    """
    file_type, selector = _fs().FileType, _fs().FileSelector
    try:
        system, path = _file_system(place)
        found = system.get_file_info(path)
        if found.type == file_type.File:
            yield place, Path()
            return
        if found.type == file_type.NotFound:
            raise UsageError(f"{place}: no such object or prefix.")
        below = system.get_file_info(selector(path, recursive=recursive))
    except (OSError, ValueError) as error:
        raise UsageError(f"{place} cannot be listed: {_first_line(error)}.") from error
    for name in sorted(info.path for info in below if info.type == file_type.File):
        inside = Path(name).relative_to(path)
        if not any(part.startswith(".") for part in inside.parts[:-1]):
            yield place / inside, inside.parent


def check_reachable(place: RemotePath) -> None:
    """Check that the bucket of a result exists.

    Raises:
        UsageError: if it does not, or the store rejects the request.
    """
    try:
        system, path = _file_system(place)
        found = system.get_file_info(path.split("/", 1)[0])
    except (OSError, ValueError) as error:
        raise UsageError(f"{place} cannot be reached: {_first_line(error)}.") from error
    if found.type == _fs().FileType.NotFound:
        raise UsageError(f"{place}: there is no such bucket. Create it, or choose another -o.")


class Staging:
    """A temporary folder for the files of one picture."""

    def __enter__(self) -> Staging:
        self._folder = Path(tempfile.mkdtemp(prefix="varestorer-"))
        self._names: dict[Path, str] = {}
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def local(self, place: str, part: str) -> Path:
        """Return the local path of a file: its own, or for a URI one in subfolder `part` of the temporary folder."""
        path = path_of(place)
        if not isinstance(path, RemotePath):
            return path
        local = self._folder / part / path.name
        local.parent.mkdir(exist_ok=True)
        self._names[local] = place
        return local

    def fetch(self, local: Path) -> None:
        """Copy an object to its local path; one that does not exist is skipped.

        Raises:
            ImageError: if the store rejects the request.
        """
        if local not in self._names:
            return
        with self._object(local, "read") as (system, path):
            try:
                with system.open_input_stream(path) as source, local.open("wb") as file:
                    shutil.copyfileobj(source, file)
            except FileNotFoundError:
                local.unlink(missing_ok=True)

    def store(self, local: Path) -> None:
        """Copy a local file to its object.

        Raises:
            ImageError: if the store rejects the request.
        """
        if local not in self._names:
            return
        with (
            self._object(local, "written") as (system, path),
            local.open("rb") as file,
            system.open_output_stream(path) as target,
        ):
            shutil.copyfileobj(file, target)

    @contextmanager
    def _object(self, local: Path, done: str) -> Iterator[tuple[Any, str]]:
        """Yield the file system and the path in it of a file's object; an error of the store becomes a sentence."""
        place = self._names[local]
        try:
            yield _file_system(path_of(place))
        except OSError as error:
            raise ImageError(f"{place} was not {done}: {_first_line(error)}.") from error

    def named(self, text: str) -> str:
        """Return a message with URIs instead of temporary paths."""
        for local, place in self._names.items():
            text = text.replace(str(local), place)
        return text


def _file_system(place: Path) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it. Credentials and endpoints come from the environment."""
    return _fs().FileSystem.from_uri(str(place))


def _fs() -> Any:
    return import_module("pyarrow.fs")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
