"""Output of `varestorer evaluate`: a contact sheet, a table of means, and a JSON document."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import RestoreSettings
from .models import ModelFiles

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluate import Scores

RESTORED = "restored"
"""Name of the one pass, with which the others are compared."""


@dataclass(frozen=True)
class Measured:
    """Results for one photograph."""

    name: str
    scores: dict[str, Scores]
    """Scores by method."""
    panels: list[tuple[str, Tensor]]
    """Row of the contact sheet."""


def write_sheet(path: Path, results: list[Measured], most: int) -> None:
    """Write the contact sheet with one row per photograph, of at most `most` evenly selected ones."""
    import torch
    import torch.nn.functional as F

    from ..pictures import write_picture
    from .compare import side_by_side

    count = min(most, len(results))
    rows = [side_by_side(results[i * len(results) // count].panels) for i in range(count)]
    width = max(row.shape[-1] for row in rows)
    rows = [F.pad(row, (0, width - row.shape[-1]), value=1.0) for row in rows]
    write_picture(path, torch.cat(rows, dim=1))


def _means(results: list[Measured]) -> dict[str, Scores]:
    from ..evaluate import mean_scores

    names = results[0].scores
    return {name: mean_scores([result.scores[name] for result in results]) for name in names}


def print_table(results: list[Measured], args: argparse.Namespace) -> None:
    """Print the means over the photographs."""
    shape = f"{args.size} on the shorter side" if args.whole else f"{args.size} x {args.size}"
    print(
        f"{len(results)} photographs of {shape}, preset {args.preset}, "
        f"scale {args.scale}, seed {args.seed}; means"
    )
    print(f"{'':20} {'PSNR dB':>8} {'SSIM':>8} {'GMSD':>8} {'MS-SSIM':>8} {'gradient energy':>16}")
    for name, mean in _means(results).items():
        print(_row(name, mean))
    gain, error = _gain(results)
    print(_row("restored - bicubic", gain, sign="+"))
    print(_row("  standard error", error))
    print("higher is better, except GMSD: lower; gradient energy: closer to 1, the original's")


def _row(label: str, values: Scores, sign: str = "") -> str:
    return (
        f"{label:20} {values.psnr:{sign}8.2f} {values.ssim:{sign}8.4f} {values.gmsd:{sign}8.4f} "
        f"{values.ms_ssim:{sign}8.4f} {values.gradient_energy:{sign}16.3f}"
    )


def _gain(results: list[Measured]) -> tuple[Scores, Scores]:
    """Return the mean of restored minus bicubic, and its standard error over the photographs."""
    from ..evaluate import difference

    restored, bicubic = (
        [result.scores[name] for result in results] for name in (RESTORED, "bicubic")
    )
    return difference(restored, bicubic)


def document(
    results: list[Measured],
    args: argparse.Namespace,
    files: ModelFiles,
    settings: RestoreSettings,
    seconds: float,
    speed: dict[str, tuple[float, float]],
) -> dict[str, Any]:
    """Return all measurements and the settings they were made with."""
    from ..assets import TINY_TRANSFORMER, asset_path, bundled_vae
    from ..checkpoint.save import sha256

    paths = {
        "model": Path(files.model or asset_path(TINY_TRANSFORMER)),
        "vae": Path(bundled_vae(files.vae) or str(files.vae)),
    }
    gain, error = _gain(results)
    return {
        "preset": args.preset,
        "scale": args.scale,
        "size": args.size,
        "whole": args.whole,
        "seed": args.seed,
        "detail": settings.detail,
        "fidelity": settings.fidelity,
        "overlap": settings.overlap,
        "color_match": settings.color_match,
        "cleaner": files.cleaner is not None,
        "prompt": files.prompt,
        "tile": files.tile,
        "adapters": [
            {"name": Path(path).name, "sha256": sha256(Path(path)), "strength": strength}
            for path, strength in files.adapters
        ],
        "files": {
            role: {"name": path.name, "sha256": sha256(path)} for role, path in paths.items()
        },
        "seconds": round(seconds, 1),
        "mean": {name: mean.as_json() for name, mean in _means(results).items()},
        "restored_minus_bicubic": {"mean": gain.as_json(), "standard_error": error.as_json()},
        "transformer_seconds_per_tile": {name: tile for name, (tile, _) in speed.items()},
        "transformer_times_the_one_pass": {name: ratio for name, (_, ratio) in speed.items()},
        "pictures": {
            result.name: {name: scores.as_json() for name, scores in result.scores.items()}
            for result in results
        },
    }
