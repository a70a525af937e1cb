"""Metrics of the package pyiqa, if it and its weights are installed.

Nothing is downloaded unless requested: connections are blocked while a metric is created, so a metric without weights
fails immediately and becomes an empty column. pyiqa is free for non-commercial use only (PolyForm
Noncommercial License and NTU S-Lab License 1.0); none of its code is part of this package.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import SettingError
from ..regular import real_path
from .measures import MEASURES, PYIQA

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Iqa:
    """Metrics of pyiqa, each created when it is first used.

    Attributes:
        missing: reasons why metrics are not available, by metric.
    """

    def __init__(self, *, weights: Path | None = None, download: bool = False, device: str = "cpu"):
        """Create the metrics.

        Args:
            weights: folder to use instead of torch's hub cache, where pyiqa keeps its weights.
            download: whether missing weights may be downloaded.

        Raises:
            SettingError: if the folder of weights does not exist.
        """
        if weights is not None and not weights.is_dir():
            raise SettingError(f"The folder of weights {weights} does not exist.")
        self._weights, self._download, self._device = weights, download, device
        self._made: dict[str, Any] = {}
        self.missing: dict[str, str] = {}

    def available(self, names: list[str]) -> list[str]:
        """Return those of the metrics that are available; `missing` has the reasons for the others."""
        for name in names:
            if name not in self._made and name not in self.missing:
                self._make(name)
        return [name for name in names if name in self._made]

    def __call__(self, name: str, picture: Tensor, reference: Tensor) -> float:
        """Return the value of a picture (3, H, W) in [0, 1]."""
        images = (picture[None].float(), reference[None].float())
        metric = self._made[name]
        needs_reference = getattr(metric, "metric_mode", "FR") == "FR"
        return float(metric(*(images if needs_reference else images[:1])))

    def of_sets(
        self, name: str, results: Mapping[str, Path], references: Mapping[str, Path]
    ) -> float:
        """Return the value of all results of a method against the references with the same keys."""
        with tempfile.TemporaryDirectory() as folder:
            folders = [Path(folder) / part for part in ("results", "references")]
            for place, files in zip(folders, (results, references), strict=True):
                place.mkdir()
                for index, key in enumerate(results):
                    # Only the paired files, with names in the same order.
                    shutil.copyfile(files[key], place / f"{index:06}{files[key].suffix.lower()}")
            return float(self._made[name](*map(str, folders)))

    def _make(self, name: str) -> None:
        assert MEASURES[name] in PYIQA
        with self._surroundings():
            try:
                import pyiqa  # pyright: ignore[reportMissingImports]
            except ImportError:
                self.missing[name] = "pyiqa is not installed (pip install pyiqa)"
                return
            try:
                metric = pyiqa.create_metric(name, device=self._device)
            except Exception as error:  # anything that pyiqa's dependencies raise without weights
                hint = (
                    ""
                    if self._download
                    else "; its weights may be missing, in which case --download fetches them"
                )
                self.missing[name] = (
                    f"pyiqa cannot create it ({type(error).__name__}: {error!s:.200}){hint}"
                )
                return
        self._made[name] = metric

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        changes = {} if self._download else dict(_OFFLINE)
        if self._weights is not None:
            changes |= {
                "TORCH_HOME": str(real_path(self._weights)),
                "HF_HOME": str(real_path(self._weights)),
            }
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        connect = socket.socket.connect
        if not self._download:
            socket.socket.connect = _refuse  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            socket.socket.connect = connect
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _refuse(*_: object) -> None:
    raise OSError("nothing is downloaded without --download")
