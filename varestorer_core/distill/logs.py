"""Logs of a training run: always a CSV file, and optionally TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..errors import CheckpointError, SettingError
from ..regular import check_regular

_log = logging.getLogger(__name__)


class CsvLog:
    """A long-format CSV file (step, name, value) without the rows that a resumed run will repeat."""

    def __init__(self, path: Path, keep_below: int = 0):
        """Create the file, or keep the rows of an existing one below a step.

        Raises:
            CheckpointError: if it cannot be written.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: list[list[str]] = []
        check_regular(path, CheckpointError)
        if keep_below and path.exists():
            with path.open(newline="") as file:
                kept = [
                    row
                    for row in csv.reader(file)
                    if row and row[0].isdigit() and int(row[0]) < keep_below
                ]
        rows = io.StringIO(newline="")
        csv.writer(rows).writerows([["step", "name", "value"], *kept])
        # Written atomically: a kill or a full disk must not lose the rows of earlier steps.
        write_atomically(path, rows.getvalue().encode(), CheckpointError)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row per value; on a full disk, rows are lost but the run continues."""
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerows(
                    [step, name, f"{value:.6g}"] for name, value in values.items()
                )
        except OSError as error:
            _log.warning("%s lacks step %d: %s", self.path, step, error.strerror or error)

    def close(self) -> None:
        """Do nothing: every row is on disk already."""


def summary_writer() -> Any:
    """Return TensorBoard's writer class.

    Raises:
        SettingError: if the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError(
            f"TensorBoard logs need the package tensorboard, which cannot be imported ({error}). Install "
            "it with pip install tensorboard, or leave out --tensorboard: log.csv has the same values."
        ) from error
    return SummaryWriter


class TensorBoardLog:
    """The same values as scalars of TensorBoard; those that a resumed run repeats are also dropped."""

    def __init__(self, folder: Path, keep_below: int = 0):
        """Open a log in `folder`.

        Raises:
            SettingError: if the package is not installed.
        """
        self._writer = summary_writer()(str(folder), purge_step=keep_below or None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one scalar per value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
