"""The picture files of files and folders, and the files that are skipped.

Names decide; files in folders whose names say nothing are recognised by their first bytes. No picture is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import UsageError, note
from .remote import RemotePath, path_of, walk

_PICTURES = {
    **dict.fromkeys(
        (".afphoto", ".clip", ".kra", ".ora", ".psb", ".xcf"), "a picture of another program"
    ),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".fit", ".fits"), "FITS"),
    **dict.fromkeys((".hdp", ".jxr", ".wdp"), "JPEG XR"),
    ".bpg": "BPG",
    ".cur": "a mouse pointer",
    ".dds": "DirectDraw Surface",
    ".djvu": "DjVu",
    ".exr": "OpenEXR",
    ".flif": "FLIF",
    ".hdr": "Radiance HDR",
    ".icns": "a set of icons",
    ".pam": "PAM",
    ".pfm": "PFM",
}
"""Extensions of pictures that are not supported, with the format."""
UNREAD = {
    **_PICTURES,
    **dict.fromkeys((".eps", ".ps", ".ai"), "PostScript"),
    **dict.fromkeys((".svg", ".wmf", ".emf"), "vector graphics"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "a film"),
    ".pdf": "a document",
}
"""Extensions of files that are named when they are skipped, with the reason."""
DOCUMENTS = frozenset([".csv", ".docx", ".htm", ".html", ".json", ".md", ".odt", ".txt", ".zip"])
"""Extensions of files that are not named."""


@dataclass
class Skipped:
    """Files of folders that are not restored."""

    files: int = 0
    """All of them."""
    pictures: int = 0
    """Those that are pictures, which make the exit code 1."""


@dataclass
class Found:
    """Files found in the inputs."""

    pictures: dict[Path, Path] = field(default_factory=dict)
    """Each picture with the subfolder of its result in the output folder."""
    skipped: Skipped = field(default_factory=Skipped)
    named: list[str] = field(default_factory=list)
    """Skipped files that look like pictures, with the reason."""

    def skip(self, reason: str | None = None, *, picture: bool = False) -> None:
        """Count a file that is skipped, and name it with the reason."""
        self.skipped.files += 1
        self.skipped.pictures += picture
        if reason is not None:
            self.named.append(reason)

    def tell(self) -> None:
        """Print the reasons on stderr."""
        for reason in self.named:
            note(reason)


def collect_pictures(
    inputs: Iterable[str], *, recursive: bool = False, without: Path | None = None
) -> tuple[list[Path], int]:
    """Return the picture files of the inputs, each once, and the number of other files; name those that are pictures.

    Raises:
        UsageError: if an input does not exist or cannot be listed.
    """
    found = find(inputs, recursive, without)
    found.tell()
    return list(found.pictures), found.skipped.files


def find(
    inputs: Iterable[str], recursive: bool, without: Path | None, remote: bool = False
) -> Found:
    """Search files and folders. Links to folders are not followed, so that no loop is endless.

    Raises:
        UsageError: if an input does not exist or cannot be listed.
    """
    paths = [path_of(name) for name in inputs]
    missing = [str(p) for p in paths if not isinstance(p, RemotePath) and not p.exists()]
    if missing:
        raise UsageError(f"{', '.join(missing)}: no such file or folder.")
    found, seen = Found(), set()
    for path in paths:
        if isinstance(path, RemotePath):
            if not remote:
                raise only_on_a_cluster(path)
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


def _sort_in(found: Found, seen: set[str], entry: Path, below: Path, regular: bool) -> None:
    """Add a file of a folder as a picture, or count it as another file."""
    from ..pictures import READABLE, is_hidden

    ending = entry.suffix.lower()
    if is_hidden(entry):
        found.skip()
    elif ending in READABLE:
        if regular:
            _add(found, seen, entry, below)
        else:
            found.skip(f"{entry} is a broken link, or not a regular file: skipped", picture=True)
    elif ending in UNREAD:
        reason = f"{entry} is {UNREAD[ending]}, which is not supported: skipped"
        found.skip(reason, picture=ending in _PICTURES)
    elif ending in DOCUMENTS or (kind := _format(entry, regular)) is None:
        found.skip()
    elif not ending:
        _add(found, seen, entry, below)
    else:
        found.skip(
            f"{entry} is a {kind} file, but {ending} is not an extension of pictures: skipped. Rename it, or specify "
            "it by name",
            picture=True,
        )


def _format(entry: Path, regular: bool) -> str | None:
    """Return the format of a picture by its first bytes; None for another file, or an object of a store."""
    from ..pictures import format_of

    if not regular or isinstance(entry, RemotePath):
        return None
    try:
        with entry.open("rb") as file:
            return format_of(file.read(16))
    except OSError:
        return None


def _add(found: Found, seen: set[str], picture: Path, below: Path) -> None:
    real = os.path.realpath(picture)
    if real not in seen:
        seen.add(real)
        found.pictures[picture] = below


def only_on_a_cluster(place: RemotePath) -> UsageError:
    """Return the error for an object store without a cluster."""
    return UsageError(
        f"{place}: object stores are only supported by restore and degrade with --cluster."
    )


def _refuse_folder(error: OSError) -> None:
    raise UsageError(f"{error.filename} cannot be listed: {error.strerror or error}.") from error


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(folder) == os.path.realpath(other)
