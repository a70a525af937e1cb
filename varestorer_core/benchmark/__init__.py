"""Comparison of methods by their results: pairing, metrics, statistics, tables, plots and a page."""

from .frequency import BANDS, radial_spectrum
from .measures import MEASURES, Measure, built_in
from .pairing import Pairing, pair_folders
from .paper import DATASETS, paper_rows
from .scoring import Row, Scorer, score_all
from .statistics import Summary, paired, summarise

__all__ = [
    "BANDS",
    "DATASETS",
    "MEASURES",
    "Measure",
    "Pairing",
    "Row",
    "Scorer",
    "Summary",
    "built_in",
    "pair_folders",
    "paired",
    "paper_rows",
    "radial_spectrum",
    "score_all",
    "summarise",
]
