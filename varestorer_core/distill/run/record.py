"""Record of a stage's settings beside its state, so that no run is continued with other settings by mistake.

RUN_DIR/<stage>/settings.json contains the current settings and, under "earlier", those that
`--allow-changes` replaced.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import __version__, json_text
from ...atomic import write_atomically
from ...checkpoint.save import sha256
from ...config import to_dict
from ...errors import CheckpointError
from ..decode import folder_identity, picture_files
from ..loop import LoopSettings
from ..stage_names import STAGES, StageName
from ..state import state_step
from ..warm_start import init_record
from .pictures import held_out_files
from .settings import RunSettings

_BEFORE: dict[StageName, tuple[StageName, ...]] = {
    "tokenizer": (),
    "teacher": ("tokenizer",),
    "encoder": ("tokenizer",),
    "decoder": ("tokenizer", "encoder"),
    "student": ("tokenizer", "teacher", "encoder", "decoder"),
    "student_decoder": ("tokenizer", "encoder", "decoder", "student"),
    "crisp_decoder": ("tokenizer", "encoder", "decoder", "student", "student_decoder"),
}
"""Stages on whose results a stage is trained."""
_SETTINGS = {"student_decoder": "decoder", "crisp_decoder": "crisp"}
"""Stages whose settings have another name than the stage."""
_LOOP = ("steps", "learning_rate", "warmup", "weight_decay", "clip", "accumulate", "ema", "seed")
_SPEED_ONLY = ("checkpointing",)
_INITIALISED = ("tokenizer", "student")
"""Stages that can start from a file."""
_log = logging.getLogger(__name__)


def stage_record(stage: StageName, settings: RunSettings, loop: LoopSettings) -> dict[str, Any]:
    """Return everything that the weights of a stage depend on, as plain values.

    Args:
        settings: settings with the shapes of the run.
    """
    own = dataclasses.asdict(getattr(settings, f"{_SETTINGS.get(stage, stage)}_settings"))
    prompt = settings.prompt
    record = {
        "stage": stage,
        "loop": {name: getattr(loop, name) for name in _LOOP},
        "settings": {name: value for name, value in own.items() if name not in _SPEED_ONLY},
        "tokenizer": to_dict(settings.tokenizer),
        "transformer": to_dict(settings.transformer),
        "processes": settings.processes.count,
        "init": init_record(settings.init) if settings.init and stage in _INITIALISED else None,
        "data": _data(settings),
        "validation": _validation(settings),
        "prompt": None if prompt is None else _digest(prompt.cpu().numpy().tobytes()),
        "before": stages_before(stage, settings.out),
        "versions": {
            "varestorer": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    return json.loads(json.dumps(record))  # as read from the file: tuples become lists


def check_start(folder: Path, record: dict[str, Any], settings: RunSettings) -> list[str]:
    """Check that a stage may start or continue in its folder, before its pictures are drawn.

    Returns:
        The differences from the settings of the state that is continued, which --allow-changes permits.

    Raises:
        CheckpointError: if there is a state but neither --resume nor --overwrite, or if it was trained with other
            settings, which the message lists.
    """
    states = _states(folder)
    if not states or settings.overwrite:
        return []
    if not settings.resume:
        raise CheckpointError(
            f"{folder} holds a training state of step {state_step(states[0])}. Continue it with --resume, or use "
            "--overwrite to train from scratch."
        )
    if not (folder / "settings.json").exists():
        return []
    changed = list(differences(read_record(folder)["settings"], record))
    if changed and not settings.allow_changes:
        raise CheckpointError(
            f"{folder} was trained with other settings: {'; '.join(changed)}. Use the same ones, or --allow-changes to "
            "continue with these."
        )
    return changed


def begin(
    folder: Path, record: dict[str, Any], settings: RunSettings, changed: Sequence[str]
) -> None:
    """Write the record of a stage that starts or continues in its folder; with --overwrite, remove what it trained.

    Args:
        changed: from `check_start`.

    Raises:
        CheckpointError: if the earlier record is damaged, or the new one cannot be written.
    """
    earlier: list[Any] = []
    states = _states(folder)
    if states and settings.overwrite:
        for old in (*folder.rglob("state.pt"), *folder.rglob("log.csv")):
            old.unlink()
    elif states:
        kept = read_record(folder)
        earlier = kept["earlier"]
        if changed:
            _log.warning("continuing with other settings: %s", "; ".join(changed))
            earlier = [*earlier, {"until_step": state_step(states[0]), **kept["settings"]}]
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"settings": record, "earlier": earlier}, indent=2)
    write_atomically(folder / "settings.json", content.encode(), CheckpointError)


def _states(folder: Path) -> list[Path]:
    return [path for path in (folder / "state.pt", folder / "skip" / "state.pt") if path.exists()]


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of a stage's settings.json, or an empty record without one.

    Raises:
        CheckpointError: if the file is damaged.
    """
    path = folder / "settings.json"
    if not path.exists():
        return {"settings": {}, "earlier": []}
    try:
        content = json_text.read(path)
        return {"settings": dict(content["settings"]), "earlier": list(content["earlier"])}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}). Remove it to continue without a comparison of settings."
        ) from error


def trained_after(folder: Path, step: int) -> dict[str, Any] | None:
    """Return step and hash of the stages on which a state was trained, by name, or None without a record.

    Settings that replaced earlier ones, but have not been trained with until `step`, do not count.
    """
    record = read_record(folder)
    trained = [entry for entry in record["earlier"] if entry.get("until_step", -1) >= step]
    return (trained[0] if trained else record["settings"]).get("before")


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    """Yield a line for each value that differs between two records."""
    for name in dict.fromkeys((*before, *now)):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name}: {_text(new)} instead of {_text(old)}"


def stages_before(stage: StageName, out: Path) -> dict[str, Any]:
    """Return step and hash of the states on which a stage is trained."""
    found = {}
    for name in STAGES:
        state = out / name / "state.pt"
        if name in _BEFORE[stage] and state.exists():
            found[name] = {"step": state_step(state), "sha256": sha256(state)[:16]}
    return found


def _data(settings: RunSettings) -> dict[str, Any]:
    procedural = {
        "procedural": settings.pictures,
        "size": settings.picture_size,
        "seed": settings.seed,
    }
    if settings.data is None:
        return procedural
    held_out = set(held_out_files(settings))
    files = [file for file in picture_files(settings.data) if file not in held_out]
    identity = {"count": len(files), "sha256": folder_identity(settings.data, files)[:16]}
    if settings.squares is None:
        return identity
    return {**identity, **procedural, "squares": settings.squares}


def _validation(settings: RunSettings) -> dict[str, Any]:
    folder = settings.validation or settings.data
    wanted: dict[str, Any] = {"pictures": settings.validation_pictures}
    if folder is not None:
        files = held_out_files(settings) or picture_files(folder)
        wanted |= {"count": len(files), "sha256": folder_identity(folder, files)[:16]}
    return wanted


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _text(value: object) -> str:
    return "nothing" if value is None else json.dumps(value)
