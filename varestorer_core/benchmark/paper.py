"""The tables of the paper (VARestorer, ICLR 2026), from its project page.

assets/paper_comparison.csv: three data sets, eight methods, ten metrics. The page does not say whether PSNR and SSIM
are computed on Y or RGB. Earlier papers with the same methods and data sets compute both on Y, so these values are in
the columns of Y.
"""

from __future__ import annotations

import csv

from ..assets import PAPER_COMPARISON, asset_path
from ..errors import SettingError
from .statistics import Summary

DATASETS = ("DIV2K-Val", "DrealSR", "RealSR")
_COLUMNS = {"PSNR": "psnr_y", "SSIM": "ssim_y"}
_NOT_MEASURES = ("dataset", "method", "steps")


def paper_rows(dataset: str) -> list[Summary]:
    """Return the paper's results on one of its data sets, marked as the paper's.

    Raises:
        SettingError: for another data set.
    """
    if dataset not in DATASETS:
        raise SettingError(f"The paper has tables of {', '.join(DATASETS)}, got {dataset}.")
    with asset_path(PAPER_COMPARISON).open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["dataset"] == dataset]
    return [
        Summary(
            f"{line['method']} (paper)",
            {
                _COLUMNS.get(name, name.lower()): float(value)
                for name, value in line.items()
                if name not in _NOT_MEASURES and value
            },
            of_paper=True,
        )
        for line in lines
    ]
