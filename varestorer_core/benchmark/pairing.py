"""Pairing of results with references by the names of their files.

A reference's key is its name without extension and high-quality suffix (`Canon_001` for `Canon_001_HR.png`). A file
belongs to a reference if its name, without extension and low-quality suffix, is the key, or begins with it followed by
one of `_ - . space` (`0801_x4_out` belongs to `0801`, `0801x4_out` does not). The names of DIV2K are an exception:
`0801x4` and `0801x4d` belong to `0801`. If several keys match, the longest one is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ImageError
from ..pictures import READABLE, is_hidden
from ..regular import real_path

_HIGH = re.compile(r"[_\-. ](?:HR|HQ|GT|original)$", re.IGNORECASE)
_LOW = re.compile(r"[_\-. ](?:LR|LQ)(?:x?\d+)?$", re.IGNORECASE)
_LOW_FOLDER = re.compile(r"(?:^|[_\-. ])(?:LR|LQ)(?:x?\d+)?(?=$|[_\-. ])", re.IGNORECASE)
_HIGH_FOLDER = re.compile(r"(?:^|[_\-. ])(?:HR|HQ|GT|original)(?=$|[_\-. ])", re.IGNORECASE)
_SCALE_FOLDER = re.compile(r"x\d+", re.IGNORECASE)
_SCALE = re.compile(r"(?<=.)x\d{1,2}[dmw]?$", re.IGNORECASE)  # of DIV2K: difficult, mild, wild
_SEPARATORS = "_-. "


@dataclass(frozen=True)
class Pairing:
    """References and the files that belong to them."""

    references: dict[str, Path]
    """References by key, in order."""
    methods: dict[str, dict[str, Path]]
    """Results by method, then by the key of the reference."""
    lq: dict[str, Path]
    """The low-quality pictures, by the key of the reference; empty without such a folder."""
    left_out: list[str] = field(default_factory=list)
    """A sentence for every file that has no counterpart, and for every missing one."""

    @property
    def common(self) -> list[str]:
        """Return the keys that every method has a result for."""
        return [key for key in self.references if all(key in m for m in self.methods.values())]


def pair_folders(reference: Path, methods: Mapping[str, Path], lq: Path | None = None) -> Pairing:
    """Pair the pictures of folders, without their subfolders.

    Raises:
        ImageError: for a folder that is missing, has no pictures, is used twice, or holds low-quality pictures instead
            of references; if a method has two results for one reference, or none at all.
    """
    _check_folders(reference, methods, lq)
    left_out: list[str] = []
    references: dict[str, Path] = {}
    for file in _pictures(reference):
        if _LOW.search(file.stem):
            left_out.append(f"{file}: a low-quality picture by its name, not a reference")
            continue
        key = _HIGH.sub("", file.stem)
        if key in references:
            raise ImageError(
                f"{references[key].name} and {file.name} in {reference} have the same name without extension and "
                "suffix. Keep one of them."
            )
        references[key] = file
    if not references:
        raise ImageError(f"There is no reference picture in {reference}.")
    paired = {name: _paired(name, folder, references, left_out) for name, folder in methods.items()}
    inputs = {} if lq is None else _paired("LQ", lq, references, left_out)
    return Pairing(references, paired, inputs, left_out)


def key_of(stem: str, keys: Sequence[str] | Mapping[str, object]) -> str | None:
    """Return the key of the reference that a file name without extension belongs to; None if there is none."""
    name = _LOW.sub("", stem)
    for exact in (name, _SCALE.sub("", name)):
        if exact in keys:
            return exact
    fitting = [key for key in keys if name.startswith(key) and name[len(key)] in _SEPARATORS]
    return max(fitting, key=len, default=None)


def _paired(
    name: str, folder: Path, references: Mapping[str, Path], left_out: list[str]
) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in _pictures(folder):
        key = key_of(file.stem, references)
        if key is None:
            left_out.append(f"{file}: no reference has its name")
        elif key in found:
            raise ImageError(
                f"{name} has two results for {references[key].name}: {found[key].name} and {file.name}. Keep one of "
                "them in the folder."
            )
        else:
            found[key] = file
    if not found:
        raise ImageError(
            f"No picture in {folder} has the name of a reference, such as {next(iter(references))}.png. Expected the "
            "reference's name, alone or followed by _, -, . or a space and a suffix."
        )
    left_out += [
        f"{name}: no result for {path.name}" for key, path in references.items() if key not in found
    ]
    return {key: found[key] for key in references if key in found}


def _check_folders(reference: Path, methods: Mapping[str, Path], lq: Path | None) -> None:
    roles = {"the references": reference, **methods, **({} if lq is None else {"LQ": lq})}
    seen: dict[Path, str] = {}
    for role, folder in roles.items():
        if not folder.is_dir():
            raise ImageError(f"{folder} ({role}) is not a folder. Specify folders of pictures.")
        earlier = seen.setdefault(real_path(folder), role)
        if earlier != role:
            raise ImageError(
                f"{folder} is used as {earlier} and as {role}. Specify another folder for one of them."
            )
    place = real_path(reference)
    # DIV2K_valid_LR_bicubic/X4
    name = place.parent.name if _SCALE_FOLDER.fullmatch(place.name) else place.name
    if _LOW_FOLDER.search(name) and not _HIGH_FOLDER.search(name):
        raise ImageError(
            f"{reference} is a folder of low-quality pictures by its name. Use the folder of the originals as "
            "--reference, and this one as --lq."
        )


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in READABLE and path.is_file() and not is_hidden(path)
    )
