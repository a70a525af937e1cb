"""The ablation table: all variants of the student, trained equally from one teacher and evaluated on photographs.

All variants of a seed start from the same weights and are trained on the same pictures in the same order. A finished
one leaves `result.json` in its folder and an unfinished one its training state, so an interrupted run can be continued.

RUN_DIR/ablation/plan.json                         settings of the comparison
RUN_DIR/ablation/<variant>/seed-<n>/               state.pt, log.csv, sheets, result.json
RUN_DIR/ablation/table.md, ablation.json           results
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from .. import json_text
from ..atomic import write_atomically
from ..checkpoint.save import sha256
from ..errors import CheckpointError
from ..evaluate import CausalPass, Pair, Pass, Scores, make_pair, score
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..pipeline import LQPyramid, decode_tiles, encode_pyramid, restore_codes
from ..resize import resize_lanczos
from ..schedule import get_schedule
from ..settings import RestoreSettings
from ..tiles.tile_bits import TileCodes
from .ablation_table import ablation_markdown, summary
from .loop import TrainingError
from .run import (
    OnProgress,
    RunSettings,
    adapted_tokenizer,
    build_stage,
    loop_settings,
    student_rate,
    train_stage,
    training_source,
    with_own_config,
)
from .run.config import new_config_removed
from .run.lock import locked
from .run.record import differences, stages_before
from .train_student import StudentSettings, StudentStage
from .variants import VARIANTS

REFERENCES = ("Lanczos", "LQ bits, decoded")
"""Rows without training: enlargement, and the tokenizer without a transformer."""


@dataclass(frozen=True)
class AblationSettings:
    """Settings of training and evaluation."""

    seeds: tuple[int, ...] = (0,)
    """Seeds of training; with several, the spread is over them, else over the photographs."""
    preset: str = "x4"
    scale: int = 4
    size: int = 256
    """Photographs are cropped to squares of this side."""
    overlap: int = 64
    """Overlap of the tiles, in pixels."""


def run_ablation(
    settings: RunSettings,
    ablation: AblationSettings,
    photographs: Sequence[Path],
    report: OnProgress | None = None,
) -> dict[str, Any]:
    """Train and evaluate all unfinished variants, write both tables and return the JSON document.

    Args:
        settings: settings of the run; `student_settings` are those of the full method.
        photographs: photographs for evaluation, which must not be part of the training data.

    Raises:
        CheckpointError: if a teacher or tokenizer is missing, or the folder compares something else.
        SettingError: if another process uses the run's folder.
    """
    with locked(settings.out):
        return _run(settings, ablation, photographs, report)


def _run(
    settings: RunSettings,
    ablation: AblationSettings,
    photographs: Sequence[Path],
    report: OnProgress | None,
) -> dict[str, Any]:
    with new_config_removed(settings):
        settings = with_own_config(settings)
        folder = settings.out / "ablation"
        bench = _Bench(settings, ablation, photographs)
        plan = _plan(settings, ablation, photographs)
        _check_plan(folder, plan)
    results: dict[str, dict[int, list[Scores]]] = {
        name: {0: scores} for name, scores in bench.references().items()
    }
    results |= {name: {} for name in VARIANTS}
    # Seed by seed: each has procedural pictures of its own, of which one set is cached.
    for seed, (name, change) in product(ablation.seeds, VARIANTS.items()):
        wanted = change(settings.student_settings)
        stage = folder / name.replace(" ", "-") / f"seed-{seed}"
        stored = _read(stage / "result.json")
        if stored is None:
            student = _train(settings, wanted, seed, stage, plan, f"{name}, seed {seed}", report)
            stored = bench.measure(student, causal=wanted.causal)
            _write(stage / "result.json", json.dumps([s.as_json() for s in stored]))
        results[name][seed] = stored
    document = {"plan": plan, **summary(results, references=REFERENCES)}
    _write(folder / "ablation.json", json.dumps(document, indent=2))
    _write(folder / "table.md", ablation_markdown(document))
    return document


class _Bench:
    """The photographs for all variants: degraded, encoded and quantised once."""

    def __init__(
        self, settings: RunSettings, ablation: AblationSettings, photographs: Sequence[Path]
    ):
        self.ablation, self.device = ablation, settings.device
        self.tokenizer: VisualTokenizer = adapted_tokenizer(settings, before="student").to(
            settings.device
        )
        self.pairs: list[Pair] = [
            make_pair(
                path,
                index,
                preset=ablation.preset,
                scale=ablation.scale,
                size=ablation.size,
                seed=0,
            )
            for index, path in enumerate(photographs)
        ]
        self.pyramid: LQPyramid = encode_pyramid(
            [pair.lq for pair in self.pairs],
            lambda tiles: self.tokenizer.encode(tiles.to(self.device)),
            RestoreSettings(upscale=float(ablation.scale), overlap=ablation.overlap),
            schedule=get_schedule(1.0, settings.transformer.pixel_class),
            patch_size=self.tokenizer.config.patch_size,
        )

    def references(self) -> dict[str, list[Scores]]:
        """Return the scores of the rows without training."""
        size = (self.ablation.size, self.ablation.size)
        enlarged = [score(resize_lanczos(pair.lq, size), pair.original) for pair in self.pairs]
        copied = self._scores(self.pyramid.codes)
        return dict(zip(REFERENCES, (enlarged, copied), strict=True))

    def measure(self, student: VARTransformer, *, causal: bool) -> list[Scores]:
        """Return the scores of a student's restorations with the most likely bits."""
        way: Any = CausalPass(student) if causal else Pass(student)
        with torch.inference_mode():
            text = way.encode_text()
        return self._scores(restore_codes(way, self.pyramid, text, device=self.device))

    def _scores(self, codes: TileCodes) -> list[Scores]:
        pictures = decode_tiles(
            lambda part: self.tokenizer.decode(part.to(self.device)),
            codes,
            self.pyramid.geometry,
            color_match="wavelet",
        )
        # In float64, which not every device has.
        device = self.device if self.device.startswith("cuda") else "cpu"
        return [
            score(picture.to(device), pair.original.to(device))
            for picture, pair in zip(pictures, self.pairs, strict=True)
        ]


def _train(
    settings: RunSettings,
    wanted: StudentSettings,
    seed: int,
    stage: Path,
    plan: dict[str, Any],
    name: str,
    report: OnProgress | None,
) -> VARTransformer:
    """Train one variant, or continue its training."""
    settings = dataclasses.replace(settings, seed=seed, resume=True, stop_at=None)
    loop = loop_settings("student", settings)
    built = build_stage("student", settings, loop, wanted, report)
    assert isinstance(built, StudentStage)
    built.held_out.load()
    source = training_source(settings, report)
    # Only now, so that a run that is refused fixes no settings.
    _write(settings.out / "ablation" / "plan.json", json.dumps(plan, indent=2))

    def show(done: int, total: int, loss: float | None) -> None:
        if report is not None:
            report(name, done, total, loss)

    if train_stage(stage, built, source, loop, settings, show) < loop.steps:
        raise TrainingError("The ablation stopped before its end; the same command continues it.")
    return built.student.eval()


def _plan(
    settings: RunSettings, ablation: AblationSettings, photographs: Sequence[Path]
) -> dict[str, Any]:
    """Return everything that results depend on, except for the seeds, so that more can be added later."""
    plan = {
        "steps": settings.steps["student"],
        "learning_rate": student_rate(settings),
        "warmup": settings.warmup,
        "accumulate": settings.accumulate,
        "ema": settings.ema,
        "student": dataclasses.asdict(settings.student_settings),
        "data": str(settings.data) if settings.data else f"{settings.pictures} procedural",
        "before": stages_before("student", settings.out),
        "photographs": [path.name for path in photographs],
        "contents": [sha256(path)[:16] for path in photographs],
        "preset": ablation.preset,
        "scale": ablation.scale,
        "size": ablation.size,
        "overlap": ablation.overlap,
    }
    return json.loads(json.dumps(plan))  # as read from the file: tuples become lists


def _check_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Check that a comparison that has begun has the same settings.

    Raises:
        CheckpointError: if it does not, listing the differences.
    """
    path = folder / "plan.json"
    if not path.exists() or not any(folder.glob("*/seed-*/*")):
        return
    stored = _stored(path)
    known = {name: value for name, value in plan.items() if name in stored}
    if changed := list(differences(stored, known)):
        raise CheckpointError(
            f"{folder} compares students with other settings: {'; '.join(changed)}. Use the same ones, or remove "
            "that folder to start again."
        )


def _read(path: Path) -> list[Scores] | None:
    if not path.exists():
        return None
    return [
        Scores(**{k: float("inf") if v is None else v for k, v in entry.items()})
        for entry in _stored(path)
    ]


def _stored(path: Path) -> Any:
    try:
        return json_text.read(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}). Remove it to make it again."
        ) from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode())
