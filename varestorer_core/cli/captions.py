"""`restore --captions`: a text for each picture, from a file beside it or a CSV file. No picture is opened here."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..wording import shown
from . import UsageError

BESIDE = "beside"
MAX_CHARACTERS = 4000
"""Longest caption. The text encoder reads 512 tokens, which are about 2000 letters of English."""
_MAX_BYTES = 2**28


def read_captions(source: str, pictures: Iterable[Path]) -> tuple[dict[Path, str], int]:
    """Return the captions of pictures, and the number of rows of a CSV file that are of no picture.

    Args:
        source: "beside" for `photo.txt` or `photo.jpg.txt` beside photo.jpg; or a CSV file with the columns file and
            caption, where names are relative to its folder or, without a folder, only the picture's name.

    Raises:
        UsageError: for a source that cannot be read, or a caption that is empty or too long.
    """
    if source == BESIDE:
        return {p: text for p in pictures if (text := _beside(p)) is not None}, 0
    return _from_csv(Path(source), list(pictures))


def _beside(picture: Path) -> str | None:
    for path in (picture.with_name(f"{picture.name}.txt"), picture.with_suffix(".txt")):
        # A picture that was given by the name of a text file fails later, as a picture.
        if path != picture and (path.exists() or path.is_symlink()):
            return _checked(_text_of(path), str(path))
    return None


def _text_of(path: Path) -> str:
    if not path.is_file():  # reading a pipe would wait for a writer
        raise UsageError(
            f"{path} is missing, or is a folder, a pipe or a device; expected a text file with captions."
        )
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UsageError(f"{path} has {size} bytes, which is too long for captions.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text in UTF-8. Save it as UTF-8.") from error


def _checked(text: str, place: str) -> str:
    """Return a caption on one line."""
    text = " ".join(text.split())
    if not text:
        raise UsageError(f"{place}: the caption is empty. Write one, or remove it.")
    if len(text) > MAX_CHARACTERS:
        raise UsageError(
            f"{place}: the caption has {len(text)} characters; expected at most {MAX_CHARACTERS}. Shorten it."
        )
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise UsageError(f"{place}: the caption contains control characters. Remove them.")
    return text


def _from_csv(path: Path, pictures: list[Path]) -> tuple[dict[Path, str], int]:
    by_path = {os.path.realpath(picture): picture for picture in pictures}
    by_name: dict[str, list[Path]] = {}
    for picture in pictures:
        by_name.setdefault(picture.name, []).append(picture)
    captions: dict[Path, str] = {}
    strangers = 0
    for line, name, text in _rows(path):
        place = f"{path}, line {line}"
        found = by_path.get(os.path.realpath(path.parent / name))
        if found is None and name == Path(name).name:
            same = by_name.get(name, [])
            if len(same) > 1:
                raise UsageError(
                    f"{place}: {len(same)} pictures are named {shown(name)}. Write their paths relative to the CSV "
                    "file."
                )
            found = same[0] if same else None
        if found is None:
            strangers += 1
            continue
        text = _checked(text, place)
        if captions.get(found, text) != text:
            raise UsageError(f"{place}: {shown(name)} already has another caption. Remove one.")
        captions[found] = text
    return captions, strangers


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, file and caption of every row."""
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), strict=True)
    columns: tuple[int, int] | None = None
    width = 2
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns, is_header = _columns(path, row)
                width = len(row)
                if is_header:
                    continue
            if len(row) != width:
                raise UsageError(
                    f"{path}, line {reader.line_num}: it has {len(row)} columns; expected {width}. Put quotation "
                    "marks around captions with commas."
                )
            yield reader.line_num, row[columns[0]].strip(), row[columns[1]]
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}. Expected CSV.") from error


def _columns(path: Path, first: list[str]) -> tuple[tuple[int, int], bool]:
    """Return the indices of file and caption, and whether the first row is a header."""
    names = [cell.strip().lower() for cell in first]
    wanted = ("file", "caption")
    missing = [name for name in wanted if name not in names]
    if not missing:
        return (names.index("file"), names.index("caption")), True
    if len(missing) == 1 or len(first) != 2:
        raise UsageError(
            f"{path} has no column {' and no column '.join(missing)}. Expected the header file,caption, or two "
            "columns without a header."
        )
    return (0, 1), False
