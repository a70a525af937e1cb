"""Logs of a training run: a CSV file always, TensorBoard where its package is installed and it is asked for."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import write_atomically
from ..errors import CheckpointError, SettingError

_log = logging.getLogger(__name__)


class CsvLog:
    """A long-format CSV (step, name, value) that drops the rows a resumed run is about to repeat."""

    def __init__(self, path: Path, keep_below: int = 0):
        """Begin the file, or keep of it what was logged below a step.

        Raises:
            CheckpointError: if it cannot be written.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: list[list[str]] = []
        if keep_below and path.exists():
            with path.open(newline="") as file:
                kept = [
                    row
                    for row in csv.reader(file)
                    if row and row[0].isdigit() and int(row[0]) < keep_below
                ]
        rows = io.StringIO(newline="")
        csv.writer(rows).writerows([["step", "name", "value"], *kept])
        # As a whole: a kill or a full disk must not cost the rows of earlier steps.
        write_atomically(path, rows.getvalue().encode(), CheckpointError)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row per value; a full disk costs rows and not the run, whose state may still fit."""
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
        SettingError: if the package is not there.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingError(
            f"TensorBoard logs need the package tensorboard, which cannot be imported ({error}). Install "
            "varestorer[train], or leave out --tensorboard: log.csv has the same figures."
        ) from error
    return SummaryWriter


class TensorBoardLog:
    """The same figures as scalars of TensorBoard; those a resumed run repeats are dropped, too."""

    def __init__(self, folder: Path, keep_below: int = 0):
        """Begin to write into `folder`.

        Raises:
            SettingError: if the package is not there.
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
