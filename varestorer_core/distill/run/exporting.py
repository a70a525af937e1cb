"""Writing what a run trained as the files that the rest of the package loads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...errors import CheckpointError
from ...lora.factors import adapter_rank
from ..export import export_adapter, export_base, export_model, last_figures, trained_weights
from .config import base_record, load_config, with_own_config
from .networks import adapted_tokenizer, crisp_tokenizer, trained_student, trained_teacher
from .settings import RunSettings


def run_export(settings: RunSettings, note: str, name: str = "tiny") -> list[Path]:
    """Write what the run trained as safetensors and return the paths.

    That is the student and the tokenizer; of a student with adapters the adapter and, unless it is a file already,
    the base that it belongs to. A tokenizer from a file is only written if its encoder was fine-tuned. A crisp decoder
    comes in a tokenizer of its own.
    """
    record = base_record(settings)
    adapted = (settings.out / "encoder" / "state.pt").exists()
    if record and adapted and settings.base is None:
        raise CheckpointError(
            f"The run in {settings.out} fine-tuned the encoder of a tokenizer from a file, whose other half the "
            "export needs. Give the run's files again: --base and --vae."
        )
    if record and settings.base is None:
        settings = load_config(settings, settings.out / "config.json")
    else:
        settings = with_own_config(settings)
    folder = settings.out / "export"
    weights = trained_weights(settings.out / "student" / "state.pt", "student")
    metrics = last_figures(settings.out / "student" / "log.csv")
    rank = adapter_rank({key: tuple(value.shape) for key, value in weights.items()})
    written = []
    if rank == 0:
        written.append(
            export_model(
                trained_student(settings), folder / f"{name}_transformer.safetensors", note
            )
        )
    else:
        config = dataclasses.replace(settings.transformer, lora_rank=rank)
        if record:
            # Whatever tile it was trained on, it belongs to the base, which names its own.
            config = dataclasses.replace(config, pixel_class=record["base"]["pixel_class"])
            base_sha256 = record["base"]["sha256"]
        else:
            path = folder / f"{name}_base.safetensors"
            base_sha256 = export_base(trained_teacher(settings), path, note)
            written.append(path)
        path = folder / f"{name}_adapter.safetensors"
        export_adapter(weights, config, path, note, base_sha256=base_sha256, metrics=metrics)
        written.append(path)
    if not record or adapted:
        tokenizer = adapted_tokenizer(settings)
        written.append(export_model(tokenizer, folder / f"{name}_tokenizer.safetensors", note))
    if (crisp := None if record else crisp_tokenizer(settings)) is not None:
        written.append(export_model(crisp, folder / f"{name}_tokenizer_crisp.safetensors", note))
    return written
