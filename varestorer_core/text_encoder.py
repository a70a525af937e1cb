"""Prompts to features with the encoder of flan-t5-xl, through Hugging Face transformers.

Only for use without ComfyUI, which has a T5 of its own. Files come from a local folder and from
nowhere else: nothing is downloaded, and no code that a folder may contain is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError, VARestorerError

MAX_TOKENS = 512
"""Prompts are cut to this many tokens, the end-of-sequence token included, as the release does."""


class TextEncoder:
    """A T5 encoder with its tokenizer."""

    def __init__(self, tokenizer: Any, model: Any):
        self.tokenizer = tokenizer
        self.model = model

    @property
    def channels(self) -> int:
        """Width of the features."""
        return self.model.config.d_model

    @torch.inference_mode()
    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return the prompt's features (1, T, channels) in float32 and their mask (1, T), on the
        CPU.

        There is no padding, so the mask is all true.
        """
        tokens = self.tokenizer(
            prompt, max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        output = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        features = output.last_hidden_state.float().cpu()
        return features, tokens.attention_mask.bool().cpu()


def load_text_encoder(
    folder: str | Path,
    *,
    channels: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> TextEncoder:
    """Load the encoder part of a T5 from a folder in the Hugging Face layout.

    Args:
        channels: width that the transformer expects of the features; None does not check.

    Raises:
        CheckpointError: if the folder is not a complete T5 of that width.
        VARestorerError: if transformers is not installed.
    """
    folder = Path(folder)
    advice = "Expected a copy of huggingface.co/google/flan-t5-xl (config, tokenizer and weights)."
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is not a folder with a config.json. {advice}")
    try:
        from transformers import (  # pyright: ignore[reportMissingImports]
            AutoConfig,
            AutoTokenizer,
            T5EncoderModel,
        )
    except ImportError as error:
        raise VARestorerError(
            "A prompt needs the package transformers, which is not installed. "
            "Run: pip install 'varestorer[text]'"
        ) from error
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        _check_config(folder, config, channels)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = T5EncoderModel.from_pretrained(
            folder,
            config=config,
            torch_dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        if isinstance(error, VARestorerError):
            raise
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{folder} cannot be loaded: {reason} {advice}") from error
    if missing := sorted(report["missing_keys"]):
        # transformers would go on with random values in their place.
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of the encoder (first: {missing[0]}). {advice}"
        )
    return TextEncoder(tokenizer, model.eval().requires_grad_(False).to(device))


def _check_config(folder: Path, config: Any, channels: int | None) -> None:
    if config.model_type != "t5":
        raise CheckpointError(
            f"{folder} holds a model of type {config.model_type!r}, a T5 was expected, such as "
            "flan-t5-xl."
        )
    if channels is not None and config.d_model != channels:
        raise CheckpointError(
            f"{folder} gives text features of width {config.d_model}, the transformer expects "
            f"{channels}. Use the text encoder that it was trained with: flan-t5-xl has width 2048."
        )
