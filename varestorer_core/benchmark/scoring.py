"""Measurement of every result of every method, with a journal of the values.

OUT/scores.jsonl has one line per picture, written as soon as it is measured. A later run reuses the values whose files,
crop and metrics are unchanged, so it continues after an interruption.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import __version__, json_text
from ..checkpoint.save import sha256
from ..errors import ImageError, VARestorerError
from ..pictures import read_picture
from ..regular import check_regular
from ..resize import enlarge_bicubic
from .frequency import radial_spectrum
from .measures import BUILT_IN, built_in
from .pairing import Pairing
from .statistics import json_values

_FORMAT = 2
"""Increased when the lines of the journal change. Before 2, infinite values were null."""
Iqa = Callable[[str, Tensor, Tensor], float]
"""Maps (metric, picture, reference) to the value."""


@dataclass(frozen=True)
class Row:
    """Values of one result."""

    method: str
    key: str
    """Key of the reference."""
    file: str
    values: dict[str, float | None]
    spectrum: list[float]
    """Power by ring, see `frequency.radial_spectrum`."""


@dataclass(frozen=True)
class Scorer:
    """Computes the metrics of pictures."""

    names: Sequence[str]
    """Metrics of single pictures: built-in ones, and those that `iqa` computes."""
    crop: int = 0
    iqa: Iqa | None = None

    def measure(self, picture: Tensor, reference: Tensor) -> dict[str, float | None]:
        """Return the values of a picture (3, H, W) in [0, 1]."""
        own = [name for name in self.names if name in BUILT_IN]
        values = built_in(picture, reference, own, self.crop)
        for name in self.names:
            if name not in BUILT_IN:
                assert self.iqa is not None
                values[name] = self.iqa(name, picture, reference)
        return values


@dataclass
class Outcome:
    """Result of a run."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """A sentence for every result that could not be measured."""

    def of(self, method: str, keys: Sequence[str]) -> list[Row]:
        """Return the rows of a method on these references, in this order."""
        by_key = {row.key: row for row in self.rows if row.method == method}
        return [by_key[key] for key in keys]


def score_all(
    pairing: Pairing,
    scorer: Scorer,
    journal: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Measure every result that has a reference, one method after the other.

    Args:
        journal: file for the values.
        on_progress: called with (results done, results).
    """
    outcome = Outcome()
    kept = {line["identity"]: line for line in _lines(journal)}
    groups = {"LQ": pairing.lq, **pairing.methods} if pairing.lq else dict(pairing.methods)
    total, done = sum(len(results) for results in groups.values()), 0
    for key, reference_file in pairing.references.items():
        reference: Tensor | None = None
        hashed = ""
        for method, results in groups.items():
            if key not in results:
                continue
            file = results[key]
            hashed = hashed or sha256(reference_file)
            identity = _identity(hashed, sha256(file), scorer, method)
            try:
                if identity not in kept:
                    if reference is None:
                        reference = read_picture(reference_file).rgb
                    kept[identity] = _measured(file, reference_file, reference, scorer, method)
                    _append(journal, {"identity": identity, **kept[identity]})
                line = kept[identity]
                outcome.rows.append(Row(method, key, file.name, line["values"], line["spectrum"]))
            except VARestorerError as error:
                outcome.problems.append(f"{method}: {file.name} left out: {error}")
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    return outcome


def _measured(
    file: Path, reference_file: Path, reference: Tensor, scorer: Scorer, method: str
) -> dict[str, Any]:
    picture = read_picture(file).rgb
    if method == "LQ" and picture.shape != reference.shape:
        picture = enlarge_bicubic(picture, (reference.shape[-2], reference.shape[-1]))
    if picture.shape != reference.shape:
        raise ImageError(
            f"it has {picture.shape[-1]} x {picture.shape[-2]} pixels, but {reference_file.name} has "
            f"{reference.shape[-1]} x {reference.shape[-2]}. Results must have the size of the reference."
        )
    try:
        values = scorer.measure(picture, reference)
    except ValueError as error:
        raise ImageError(str(error)) from error
    spectrum = radial_spectrum(picture).tolist()
    return {"method": method, "file": file.name, "values": values, "spectrum": spectrum}


def _identity(reference: str, result: str, scorer: Scorer, method: str) -> str:
    enlarged = "LQ" if method == "LQ" else ""
    what = [reference, result, scorer.crop, sorted(scorer.names), __version__, enlarged, _FORMAT]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def _lines(journal: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a journal, skipping one that a killed run left incomplete."""
    check_regular(journal)
    if not journal.exists():
        return
    for text in journal.read_text(encoding="utf-8").splitlines():
        try:
            line = json_text.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"identity", "values", "spectrum"} <= line.keys():
            values = {n: float(v) if v == "inf" else v for n, v in line["values"].items()}
            yield {**line, "values": values}


def _append(journal: Path, line: dict[str, Any]) -> None:
    with journal.open("ab+") as file:
        # An incomplete line before it must not absorb this one.
        if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
            file.write(b"\n")
        written = {**line, "values": json_values(line["values"])}
        file.write(json.dumps(written, allow_nan=False).encode() + b"\n")
