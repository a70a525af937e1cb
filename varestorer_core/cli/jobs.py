"""The pictures to restore and the path of each result. No picture is opened here."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..regular import real_path
from . import UsageError
from .finding import DOCUMENTS, UNREAD, Skipped, find, only_on_a_cluster
from .remote import RemotePath, check_reachable, path_of

ENDING = ".png"
"""Default extension of results in a folder: the only format that is lossless and holds transparency and 16 bits."""

_LONGEST_NAME = 255  # bytes, on the usual file systems


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
) -> tuple[list[Job], Skipped]:
    """Expand files and folders, and assign each picture a unique name in the output.

    With `recursive`, subfolders are searched and reproduced in the output. Picture files in folders that are not
    supported are listed on stderr. `output` is a file if it has the extension of a picture file and there is
    one input picture, else a folder, where results have the name of their source with the extension `ending`; if two
    sources share that name, the old extension is appended to the later ones. `suffix` is added to every name before its
    extension.

    Args:
        remote: whether inputs and output may be URIs of object stores.

    Returns:
        The jobs, and the files of folders that were skipped.

    Raises:
        UsageError: if there is nothing to do, or a result would replace its source or go to its folder.
    """
    if any(sign in suffix for sign in '/\\:*?"<>|\0'):
        raise UsageError(f"--suffix {suffix} is not valid in a file name.")
    if not all([*inputs, output]):
        raise UsageError("An input or output is empty. Specify the name of a file or folder.")
    target = path_of(output)
    if isinstance(target, RemotePath) and not remote:
        raise only_on_a_cluster(target)
    found = find(inputs, recursive, target, remote)
    sources, skipped = list(found.pictures), found.skipped
    found.tell()
    if not sources:
        left_out = f" ({skipped.files} other files)" if skipped.files else ""
        raise UsageError(f"There are no pictures in {', '.join(inputs)}{left_out}.")
    if _is_file_name(target):
        if len(sources) > 1:
            raise UsageError(
                f"{len(sources)} pictures cannot all be written to {target}. Specify a folder after -o."
            )
        if suffix:
            raise UsageError(
                f"--suffix {suffix} has an effect only on results in a folder, and -o {target} is a file name. Leave "
                "it out."
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


def _is_file_name(target: Path) -> bool:
    from ..pictures import FORMATS, READABLE

    if target.is_dir():
        return False
    ending = target.suffix.lower()
    if ending in FORMATS:
        return True
    if ending in READABLE or ending in UNREAD or ending in DOCUMENTS:
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
    real = lru_cache(maxsize=None)(real_path)
    for source, below in sources.items():
        place = folder / below
        if real(place) in (real_path(source).parent, real(source.parent)):
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
    sources = {real_path(job.source) for job in jobs}
    for job in jobs:
        for path in (job.target, job.compare):
            if path is not None and real_path(path) in sources:
                raise UsageError(f"{path} is one of the inputs and would be overwritten.")
