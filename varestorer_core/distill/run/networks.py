"""The networks from the stages of a run in its folder, or from its base files."""

from __future__ import annotations

from pathlib import Path

from ...lora.convolution import merged_weights
from ...lora.factors import adapter_rank
from ...models.tokenizer import VisualTokenizer
from ...models.transformer import VARTransformer
from ..adapters import adapters_of, student_on_teacher
from ..export import has_trained, trained_weights
from ..initialise import student_from_teacher
from ..stage_names import STAGES, StageName
from .settings import OPTIONAL, RunSettings


def trained_tokenizer(settings: RunSettings) -> VisualTokenizer:
    """Return the tokenizer of the run."""
    if settings.base is not None:
        return settings.base.load_tokenizer()
    tokenizer = VisualTokenizer(settings.tokenizer)
    tokenizer.load_state_dict(trained_weights(settings.out / "tokenizer" / "state.pt", "tokenizer"))
    return tokenizer.eval()


def adapted_tokenizer(
    settings: RunSettings, before: StageName = "crisp_decoder"
) -> VisualTokenizer:
    """Return the tokenizer with the encoder and decoder for degraded pictures, if those stages were run.

    Args:
        before: stage whose own result, and those of later ones, are not used.
    """
    tokenizer = trained_tokenizer(settings)
    for stage in STAGES[: STAGES.index(before)]:
        state = settings.out / stage / "state.pt"
        if stage == "encoder" and state.exists():
            tokenizer.encoder.load_state_dict(merged_weights(trained_weights(state, "encoder")))
        elif stage in (*OPTIONAL, "student") and has_trained(state, "decoder"):
            tokenizer.decoder.load_state_dict(trained_weights(state, "decoder"))
    return tokenizer


def crisp_tokenizer(settings: RunSettings) -> VisualTokenizer | None:
    """Return the adapted tokenizer with the crisp decoder, if that stage was run."""
    state = settings.out / "crisp_decoder" / "state.pt"
    if not state.exists():
        return None
    tokenizer = adapted_tokenizer(settings)
    tokenizer.decoder.load_state_dict(trained_weights(state, "decoder"))
    return tokenizer


def trained_teacher(settings: RunSettings) -> VARTransformer:
    """Return the teacher of the run."""
    if settings.base is not None:
        return settings.base.load_teacher(settings.transformer, settings.device)
    teacher = VARTransformer(settings.transformer)
    teacher.load_state_dict(trained_weights(settings.out / "teacher" / "state.pt", "teacher"))
    return teacher.eval()


def trained_student(settings: RunSettings, stage: Path | None = None) -> VARTransformer:
    """Return the student of the run, or one that was trained in another folder."""
    folder = stage or settings.out / "student"
    weights = trained_weights(folder / "state.pt", "student")
    rank = adapter_rank({key: tuple(value.shape) for key, value in weights.items()})
    if rank == 0:
        student = student_from_teacher(VARTransformer(settings.transformer))
        student.load_state_dict(weights)
        return student.eval()
    student = student_on_teacher(trained_teacher(settings), rank)
    factors = {name: value for name, value in weights.items() if ".lora_" in name}
    adapters_of(student).load_state_dict(factors)
    return student.eval()
