"""Output files of `varestorer benchmark`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from .. import __version__
from ..atomic import write_atomically
from ..benchmark import BANDS, MEASURES, Pairing, Summary, paired, radial_spectrum, summarise
from ..benchmark.iqa import Iqa
from ..benchmark.page import write_page
from ..benchmark.plots import PlotsUnavailableError, bar_plot, scatter_plot, spectrum_plot
from ..benchmark.scoring import Outcome
from ..benchmark.statistics import json_values
from ..benchmark.tables import latex_table, markdown_table, per_image_csv, summary_json
from ..errors import VARestorerError
from ..pictures import read_picture
from ..wording import counted

_STANDARD = (
    "PSNR (Y) and SSIM (Y): ITU-R BT.601 luma in studio range, not rounded; SSIM with an 11 x 11 Gaussian window; "
    "{crop} pixels removed at every side."
)


class BenchmarkReport:
    """Report of one comparison."""

    def __init__(
        self,
        args: argparse.Namespace,
        pairing: Pairing,
        outcome: Outcome,
        names: list[str],
        missing: dict[str, str],
        paper: list[Summary],
    ):
        self.args, self.pairing, self.outcome, self.missing = args, pairing, outcome, missing
        self.folder: Path = args.output
        groups = (["LQ"] if pairing.lq else []) + list(pairing.methods)
        measured = {(row.method, row.key) for row in outcome.rows}
        self.keys = [
            key for key in pairing.references if all((method, key) in measured for method in groups)
        ]
        if not self.keys:
            raise VARestorerError("There is no reference whose results could all be measured.")
        self.rows = {method: outcome.of(method, self.keys) for method in groups}
        self.names = list(dict.fromkeys([*names, *(n for line in paper for n in line.mean)]))
        self.own = [
            summarise(method, [row.values for row in rows], self.names)
            for method, rows in self.rows.items()
        ]
        self.paper = paper
        self.against = args.against or list(pairing.methods)[-1]

    def add_sets(self, iqa: Iqa | None, names: list[str]) -> None:
        """Compute the metrics that have one value for a whole set of results."""
        references = {key: self.pairing.references[key] for key in self.keys}
        for name in names:
            assert iqa is not None
            for summary in self.own:
                if summary.method in self.pairing.methods:
                    files = self.pairing.methods[summary.method]
                    results = {key: files[key] for key in self.keys}
                    summary.mean[name] = iqa.of_sets(name, results, references)

    @property
    def differences(self) -> list[Summary]:
        """Return the paired differences between one method and every other."""
        one = [row.values for row in self.rows[self.against]]
        return [
            paired(one, [row.values for row in rows], self.names, f"{self.against} - {method}")
            for method, rows in self.rows.items()
            if method != self.against
        ]

    def write(self) -> list[Path]:
        """Write all files and return their paths."""
        own = [row for rows in self.rows.values() for row in rows]
        summaries = [*self.own, *self.paper]
        standard = f"{counted(len(self.keys), 'picture')}. {_STANDARD.format(crop=self.args.crop)}"
        markdown = f"{standard} In parentheses: standard error of the mean.\n\n"
        markdown += markdown_table(summaries, self.names)
        if self.differences:
            table = markdown_table(self.differences, self.names, differences=True)
            markdown += f"\nPaired differences (standard error):\n\n{table}"
        texts = {
            "per_image.csv": per_image_csv(own, self.names),
            "table.md": markdown,
            "table.tex": latex_table(summaries, self.names),
            "benchmark.json": json.dumps(
                {**self.document(), "pictures": self._values()}, indent=1, allow_nan=False
            ),
        }
        written = [self.folder / name for name in texts]
        for path, text in zip(written, texts.values(), strict=True):
            # Names of files may hold bytes that are not UTF-8.
            write_atomically(path, text.encode(errors="backslashreplace"), VARestorerError)
        written += self._plots()
        page = self.folder / "index.html"
        notes = [standard]
        if self.paper:
            notes.append("Rows marked (paper) are the paper's own values, on its own pictures.")
        write_page(page, "Benchmark", summaries, self.names, self._shown(), own, notes)
        return [*written, page]

    def document(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {
            "version": __version__,
            "pictures": len(self.keys),
            "crop": self.args.crop,
            "bands_in_cycles_a_pixel": {name: bounds[0] for name, bounds in BANDS.items()},
            "methods": [summary_json(line) for line in [*self.own, *self.paper]],
            "differences": [summary_json(line) for line in self.differences],
            "empty": {MEASURES[name].title: reason for name, reason in self.missing.items()},
            "left_out": [*self.pairing.left_out, *self.outcome.problems],
        }

    def _values(self) -> dict[str, Any]:
        return {
            key: {method: json_values(rows[index].values) for method, rows in self.rows.items()}
            for index, key in enumerate(self.keys)
        }

    def _plots(self) -> list[Path]:
        paths = [self.folder / f"{name}.png" for name in ("bars", "scatter", "spectra")]
        for path in paths:
            # A plot of an earlier report must not stay beside this one's tables.
            path.unlink(missing_ok=True)
        try:
            bar_plot(paths[0], self.own, self.names)
            written = [paths[0]]
            across = next((n for n in ("psnr_y", *self.names) if n in self.own[-1].mean), None)
            up = next((n for n in ("lpips", "niqe", "ssim_y") if n in self.own[-1].mean), None)
            if across is not None and up is not None and across != up:
                scatter_plot(paths[1], self.own, across, up)
            if paths[1].exists():
                written.append(paths[1])
            spectra = {
                method: [fmean(ring) for ring in zip(*(row.spectrum for row in rows), strict=True)]
                for method, rows in self.rows.items()
            }
            spectrum_plot(paths[2], spectra, self._reference_spectrum())
        except PlotsUnavailableError as error:
            print(f"varestorer: no plots: {error}", file=sys.stderr)
            return []
        return [*written, paths[2]]

    def _reference_spectrum(self) -> list[float]:
        files = (self.pairing.references[key] for key in self.keys)
        spectra = [radial_spectrum(read_picture(file).rgb).tolist() for file in files]
        return [fmean(ring) for ring in zip(*spectra, strict=True)]

    def _shown(self) -> dict[str, dict[str, Path]]:
        """Return the pictures of the page: at most `--page-pictures`, evenly selected."""
        count = min(self.args.page_pictures, len(self.keys))
        keys = [self.keys[index * len(self.keys) // count] for index in range(count)]
        shown = {}
        for key in keys:
            files = {"LQ": self.pairing.lq[key]} if key in self.pairing.lq else {}
            files |= {method: results[key] for method, results in self.pairing.methods.items()}
            shown[key] = {**files, "reference": self.pairing.references[key]}
        return shown
