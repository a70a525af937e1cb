"""Which pictures to restore, and where each result goes. No picture is opened here."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import UsageError

ENDING = ".png"
"""Of results in a folder, unless another is asked for: the only format that keeps every bit,
transparency and 16 bits."""


@dataclass(frozen=True)
class Job:
    """One picture to restore."""

    source: Path
    target: Path
    compare: Path | None
    """Where the side-by-side goes, if one is wanted."""


def plan_jobs(
    inputs: Sequence[str], output: str, *, compare: bool = False, ending: str = ENDING
) -> tuple[list[Job], int]:
    """Expand files and folders and give each picture a name of its own in the output.

    Folders are not searched recursively. `output` is a file if it ends like a picture file and
    there is one input picture, else a folder, where results are called like their source with the
    given ending; where two sources share that name, the later ones get their old ending appended.

    Returns:
        The jobs, and how many files of the folders were left out because they are not pictures.

    Raises:
        UsageError: if there is nothing to do, or a result would replace or join its originals.
    """
    sources, skipped = collect_pictures(inputs)
    target = Path(output)
    if not sources:
        left_out = f" ({skipped} other files)" if skipped else ""
        raise UsageError(f"there are no pictures in {', '.join(inputs)}{left_out}.")
    if _is_file_name(target):
        if len(sources) > 1:
            raise UsageError(
                f"{len(sources)} pictures cannot all become {target}. Give a folder after -o."
            )
        extra = target.with_name(f"{target.stem}_compare.png") if compare else None
        jobs = [Job(sources[0], target, extra)]
    else:
        jobs = _jobs_in_folder(sources, target, compare, ending)
    _protect_sources(jobs)
    return jobs, skipped


def check_writable(folder: Path) -> None:
    """Make sure that a folder exists and that files can be created in it.

    Raises:
        UsageError: if not.
    """
    probe = folder / f".varestorer-{secrets.token_hex(6)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written to: {error.strerror or error}. Choose another -o."
        ) from error


def collect_pictures(inputs: Iterable[str]) -> tuple[list[Path], int]:
    """Return the picture files behind the inputs, each once, and the number of other files.

    Raises:
        UsageError: if an input does not exist or cannot be listed.
    """
    from ..pictures import READABLE

    found: dict[str, Path] = {}
    skipped = 0
    missing = [name for name in inputs if not Path(name).exists()]
    if missing:
        raise UsageError(f"{', '.join(missing)}: no such file or folder.")
    for path in map(Path, inputs):
        if path.is_dir():
            try:
                files = sorted(entry for entry in path.iterdir() if entry.is_file())
            except OSError as error:
                raise UsageError(f"{path} cannot be listed: {error.strerror or error}.") from error
            # Hidden files are never pictures (macOS leaves "._name.png" beside each picture).
            pictures = [
                entry
                for entry in files
                if entry.suffix.lower() in READABLE and not entry.name.startswith(".")
            ]
            skipped += len(files) - len(pictures)
        else:
            pictures = [path]
        for picture in pictures:
            found.setdefault(os.fspath(picture.resolve()), picture)
    return list(found.values()), skipped


def _is_file_name(target: Path) -> bool:
    from ..pictures import FORMATS, READABLE

    if target.is_dir():
        return False
    ending = target.suffix.lower()
    if ending in FORMATS:
        return True
    if ending in READABLE:
        raise UsageError(
            f"{target}: {ending} files are read but not written. "
            f"Use one of {', '.join(sorted(FORMATS))}."
        )
    if target.exists():
        raise UsageError(f"{target} is a file. Give a folder or the name of a picture after -o.")
    return False


def _jobs_in_folder(sources: list[Path], folder: Path, compare: bool, ending: str) -> list[Job]:
    for source in sources:
        if folder.resolve() in (source.resolve().parent, source.parent.resolve()):
            raise UsageError(
                f"{folder} is the folder of {source.name} itself. Give another folder after -o, "
                "or the name of a file."
            )
    taken: set[str] = set()
    jobs = []
    for source in sources:
        stem = _free_stem(source, taken, compare)
        extra = folder / f"{stem}_compare{ending}" if compare else None
        jobs.append(Job(source, folder / f"{stem}{ending}", extra))
    return jobs


def _free_stem(source: Path, taken: set[str], compare: bool) -> str:
    """Return a stem whose files are not taken yet, and take them.

    Names that differ only in case count as equal, as they are on Windows and macOS.
    """
    ending = source.suffix.lstrip(".")
    stem, number = source.stem, 1
    while True:
        names = {stem.casefold()}
        if compare:
            names.add(f"{stem}_compare".casefold())
        if not names & taken:
            taken |= names
            return stem
        suffix = f"_{ending}" if ending else ""
        stem = f"{source.stem}{suffix}" + (f"_{number}" if number > 1 else "")
        number += 1


def _protect_sources(jobs: list[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        for path in (job.target, job.compare):
            if path is not None and path.resolve() in sources:
                raise UsageError(f"{path} is one of the inputs and would be overwritten.")
