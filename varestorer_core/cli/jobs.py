"""The pictures to restore and the path of each result. No picture is opened here."""

from __future__ import annotations

import os
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..wording import LONGEST_SENTENCE, shown
from . import UsageError
from .remote import RemotePath, check_reachable, path_of, walk

ENDING = ".png"
"""Default extension of results in a folder: the only format that is lossless and holds transparency and 16 bits."""

_LONGEST_NAME = 255  # bytes, on the usual file systems
_UNREAD = {
    **dict.fromkeys((".eps", ".ps", ".ai"), "PostScript"),
    **dict.fromkeys((".svg", ".wmf", ".emf"), "vector graphics"),
    **dict.fromkeys(
        (".exr", ".hdr", ".dds", ".xcf", ".psb", ".kra", ".djvu"), "a picture of another program"
    ),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "a film"),
    ".pdf": "a document",
}
_DOCUMENTS = frozenset([".csv", ".docx", ".htm", ".html", ".json", ".md", ".odt", ".txt", ".zip"])


@dataclass(frozen=True)
class Job:
    """One picture to restore."""

    source: Path
    target: Path
    compare: Path | None
    """Path of the side-by-side picture, if requested."""


def plan_jobs(
    inputs: Sequence[str],
    output: str,
    *,
    compare: bool = False,
    ending: str = ENDING,
    recursive: bool = False,
    suffix: str = "",
    remote: bool = False,
) -> tuple[list[Job], int]:
    """Expand files and folders, and assign each picture a unique name in the output.

    With `recursive`, subfolders are searched and reproduced in the output. Files in folders that look like pictures but
    are not supported are listed on stderr. `output` is a file if it has the extension of a picture file and there is
    one input picture, else a folder, where results have the name of their source with the extension `ending`; if two
    sources share that name, the old extension is appended to the later ones. `suffix` is added to every name before its
    extension.

    Args:
        remote: whether inputs and output may be URIs of object stores.

    Returns:
        The jobs, and the number of files in folders that were skipped because they are not pictures.

    Raises:
        UsageError: if there is nothing to do, or a result would replace its source or go to its folder.
    """
    if any(sign in suffix for sign in '/\\:*?"<>|\0'):
        raise UsageError(f"--suffix {suffix} is not valid in a file name.")
    if not all([*inputs, output]):
        raise UsageError("An input or output is empty. Specify the name of a file or folder.")
    target = path_of(output)
    if isinstance(target, RemotePath) and not remote:
        raise _only_on_a_cluster(target)
    found = _find(inputs, recursive, target, remote)
    sources, skipped = list(found.pictures), found.skipped
    for reason in found.unsupported:
        print(f"varestorer: note: {shown(reason, LONGEST_SENTENCE)}", file=sys.stderr)
    if not sources:
        left_out = f" ({skipped} other files)" if skipped else ""
        raise UsageError(f"There are no pictures in {', '.join(inputs)}{left_out}.")
    if _is_file_name(target):
        if len(sources) > 1:
            raise UsageError(
                f"{len(sources)} pictures cannot all be written to {target}. Specify a folder after -o."
            )
        extra = target.with_name(f"{target.stem}_compare.png") if compare else None
        jobs = [Job(sources[0], target, extra)]
    else:
        jobs = _jobs_in_folder(found.pictures, target, compare, ending, suffix)
    _protect_sources(jobs)
    _check_names(jobs)
    return jobs, skipped


def check_format(wanted: str | None, target: Path) -> None:
    """Raise an error if --format does not agree with the file name of a result.

    Raises:
        UsageError: if it does not.
    """
    endings = {"jpg": (".jpg", ".jpeg"), "tif": (".tif", ".tiff")}
    if wanted is not None and target.suffix.lower() not in endings.get(wanted, (f".{wanted}",)):
        raise UsageError(
            f"--format {wanted} does not agree with {target}. Leave it out: the name determines the format."
        )


def check_writable(folder: Path) -> None:
    """Create a folder if necessary and check that files can be created in it.

    Raises:
        UsageError: if not.
    """
    if isinstance(folder, RemotePath):
        check_reachable(folder)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to: {error.strerror or error}. Choose another -o."
        ) from error


def collect_pictures(
    inputs: Iterable[str], *, recursive: bool = False, without: Path | None = None
) -> tuple[list[Path], int]:
    """Return the picture files of the inputs, each once, and the number of other files.

    Raises:
        UsageError: if an input does not exist or cannot be listed.
    """
    found = _find(inputs, recursive, without)
    return list(found.pictures), found.skipped


@dataclass
class _Found:
    """Files found in the inputs."""

    pictures: dict[Path, Path] = field(default_factory=dict)
    """Each picture with the subfolder of its result in the output folder."""
    skipped: int = 0
    unsupported: list[str] = field(default_factory=list)
    """Files that look like pictures but are not supported, with the reason."""


def _find(
    inputs: Iterable[str], recursive: bool, without: Path | None, remote: bool = False
) -> _Found:
    """Search files and folders. Links to folders are not followed, so that no loop is endless."""
    paths = [path_of(name) for name in inputs]
    missing = [str(p) for p in paths if not isinstance(p, RemotePath) and not p.exists()]
    if missing:
        raise UsageError(f"{', '.join(missing)}: no such file or folder.")
    found, seen = _Found(), set()
    for path in paths:
        if isinstance(path, RemotePath):
            if not remote:
                raise _only_on_a_cluster(path)
            for entry, below in walk(path, recursive):
                _sort_in(found, seen, entry, below, True)
            continue
        if not path.is_dir():
            _add(found, seen, path, Path())
            continue
        for folder, folders, files in os.walk(path, onerror=_refuse_folder):
            below = Path(folder)
            folders[:] = sorted(
                folder
                for folder in folders
                if recursive and not folder.startswith(".") and not _same(below / folder, without)
            )
            for file in sorted(files):
                entry = below / file
                _sort_in(found, seen, entry, below.relative_to(path), entry.is_file())
    return found


def _sort_in(found: _Found, seen: set[str], entry: Path, below: Path, regular: bool) -> None:
    """Add a file of a folder as a picture, or count it as another file."""
    from ..pictures import READABLE

    ending = entry.suffix.lower()
    # Hidden files are never pictures (macOS leaves "._name.png" beside each picture).
    if entry.name.startswith("."):
        found.skipped += 1
    elif ending in READABLE and regular:
        _add(found, seen, entry, below)
    elif ending in READABLE:
        found.unsupported.append(f"{entry} is a broken link, or not a regular file: skipped")
        found.skipped += 1
    else:
        if ending in _UNREAD:
            found.unsupported.append(
                f"{entry} is {_UNREAD[ending]}, which is not supported: skipped"
            )
        found.skipped += 1


def _add(found: _Found, seen: set[str], picture: Path, below: Path) -> None:
    real = os.path.realpath(picture)
    if real not in seen:
        seen.add(real)
        found.pictures[picture] = below


def _only_on_a_cluster(place: RemotePath) -> UsageError:
    return UsageError(
        f"{place}: object stores are only supported by restore and degrade with --cluster."
    )


def _refuse_folder(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be listed: {error.strerror or error}.") from error


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(folder) == os.path.realpath(other)


def _is_file_name(target: Path) -> bool:
    from ..pictures import FORMATS, READABLE

    if target.is_dir():
        return False
    ending = target.suffix.lower()
    if ending in FORMATS:
        return True
    if ending in READABLE or ending in _UNREAD or ending in _DOCUMENTS:
        raise UsageError(
            f"{target}: {ending} files cannot be written. Use one of {', '.join(sorted(FORMATS))}."
        )
    if target.exists():
        raise UsageError(f"{target} is a file. Specify a folder or the name of a picture after -o.")
    return False


def _jobs_in_folder(
    sources: dict[Path, Path], folder: Path, compare: bool, ending: str, suffix: str
) -> list[Job]:
    taken: dict[Path, set[str]] = {}
    jobs = []
    for source, below in sources.items():
        place = folder / below
        if place.resolve() in (source.resolve().parent, source.parent.resolve()):
            raise UsageError(
                f"{place} is the folder of {source.name} itself. Specify another folder after -o, "
                "or the name of a file."
            )
        stem = _free_stem(source, taken.setdefault(place, set()), compare) + suffix
        extra = place / f"{stem}_compare{ending}" if compare else None
        jobs.append(Job(source, place / f"{stem}{ending}", extra))
    return jobs


def _check_names(jobs: list[Job]) -> None:
    for job in jobs:
        for path in (job.target, job.compare):
            if path is not None and len(os.fsencode(path.name)) > _LONGEST_NAME:
                raise UsageError(
                    f"{job.source}: the name of its result would be longer than {_LONGEST_NAME} bytes. Rename it."
                )


def _free_stem(source: Path, taken: set[str], compare: bool) -> str:
    """Return a stem whose file names are still free, and reserve them.

    Names that differ only in case, or in the encoding of accents, count as equal, as on Windows and macOS.
    """
    ending = source.suffix.lstrip(".")
    stem, number = source.stem, 1
    while True:
        names = {_folded(stem)}
        if compare:
            names.add(_folded(f"{stem}_compare"))
        if not names & taken:
            taken |= names
            return stem
        suffix = f"_{ending}" if ending else ""
        stem = f"{source.stem}{suffix}" + (f"_{number}" if number > 1 else "")
        number += 1


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _protect_sources(jobs: list[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        for path in (job.target, job.compare):
            if path is not None and path.resolve() in sources:
                raise UsageError(f"{path} is one of the inputs and would be overwritten.")
