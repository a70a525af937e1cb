"""The config.json of a run: its networks' shapes, and the base files that it was started with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ... import json_text
from ...atomic import write_atomically
from ...config import to_dict, tokenizer_config, transformer_config
from ...errors import CheckpointError, VARestorerError
from .importing import check_complete, is_imported
from .settings import RunSettings


def load_config(settings: RunSettings, path: Path) -> RunSettings:
    """Return the settings with the networks' shapes of a config.json."""
    try:
        values = json_text.read(path)
        return dataclasses.replace(
            settings,
            tokenizer=tokenizer_config(values["tokenizer"]),
            transformer=transformer_config(values["transformer"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a training configuration: {error}. It must be JSON with the keys 'tokenizer' and "
            "'transformer', as a run writes it."
        ) from error


def with_own_config(settings: RunSettings) -> RunSettings:
    """Return the settings with the run's own shapes; a new run records those of the settings.

    Raises:
        CheckpointError: if the run was started with other files.
    """
    path = settings.out / "config.json"
    if path.exists():
        check_complete(path)
        _check_base(settings)
        own = load_config(settings, path)
        given = settings.given_config
        if given is not None and (own.tokenizer, own.transformer) != (
            settings.tokenizer,
            settings.transformer,
        ):
            raise CheckpointError(
                f"The run in {settings.out} has networks of other shapes than {given}: see {path}. Leave "
                "--config out to continue it, or choose another --out."
            )
        return own
    record = {}
    files = settings.base
    if files is not None:
        tokenizer, transformer = files.shapes()
        settings = dataclasses.replace(settings, tokenizer=tokenizer, transformer=transformer)
        record = files.record()
    if settings.processes.first:
        settings.out.mkdir(parents=True, exist_ok=True)
        shapes = {
            "tokenizer": to_dict(settings.tokenizer),
            "transformer": to_dict(settings.transformer),
        }
        content = json.dumps({**shapes, **record}, indent=2).encode()
        write_atomically(path, content, CheckpointError)
    return settings


@contextmanager
def new_config_removed(settings: RunSettings) -> Iterator[None]:
    """Remove a config.json that was written within the block if an error ends it, so that a refused run leaves none."""
    path = settings.out / "config.json"
    new = settings.processes.first and not path.exists()
    try:
        yield
    except VARestorerError:
        if new:
            path.unlink(missing_ok=True)
        raise


def on_files(settings: RunSettings) -> bool:
    """Return whether the run was started with a base and a tokenizer from files."""
    return bool(base_record(settings))


def base_record(settings: RunSettings) -> dict[str, Any]:
    """Return the run's record of its base files; empty if it has none."""
    path = settings.out / "config.json"
    if not path.exists():
        return {}
    load_config(settings, path)  # raises an error if the file is damaged
    values = json_text.read(path)
    return {role: values[role] for role in ("base", "vae") if role in values}


def _check_base(settings: RunSettings) -> None:
    """Raise an error for base files other than those that the run was started with, including none."""
    path, record = settings.out / "config.json", base_record(settings)
    if settings.base is None and record:
        raise CheckpointError(
            f"The run in {settings.out} was started with files. Specify them again: --base and --vae."
        )
    if settings.base is not None and not record:
        began = "began with imported files" if is_imported(path) else "trained its own teacher"
        raise CheckpointError(
            f"The run in {settings.out} {began}. Leave --base and --vae out, or choose another --out."
        )
    if settings.base is not None:
        settings.base.check(record, settings.out)
        pixel_class = load_config(settings, path).transformer.pixel_class
        if settings.base.pixel_class not in (None, pixel_class):
            raise CheckpointError(
                f"The run in {settings.out} was started with tiles of pixel class {pixel_class}, got "
                f"{settings.base.pixel_class}. Leave --pixel-class out, or choose another --out."
            )
