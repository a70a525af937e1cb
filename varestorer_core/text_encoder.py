"""Text features of prompts from the encoder of flan-t5-xl, using Hugging Face transformers.

Only used outside ComfyUI, which has its own T5. Files are only read from a local folder: nothing is downloaded, and no
code in the folder is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoint import read_checkpoint
from .checkpoint.check import is_finite
from .checkpoint.files import damage_named
from .checkpoint.mapped import off_the_map, release_mapped
from .errors import CheckpointError, VARestorerError
from .official_files import FLAN_T5_XL
from .regular import check_regular
from .wording import shown

_TIED = "encoder.embed_tokens.weight"  # the same tensor as shared.weight

_ADVICE = f"Expected a copy of {FLAN_T5_XL.source} (config, tokenizer and weights)."

MAX_TOKENS = 512
"""Prompts are truncated to this many tokens, including the end-of-sequence token, as in the release."""


class TextEncoder:
    """A T5 encoder with its tokenizer."""

    def __init__(self, tokenizer: Any, model: Any):
        self.tokenizer = tokenizer
        self.model = model

    @torch.inference_mode()
    def encode(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return the prompt's features (1, T, channels) in float32 and their mask (1, T), on the CPU.

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
        channels: width of the features that the transformer expects; None skips the check.

    Raises:
        CheckpointError: if the folder is not a complete T5 of that width.
        VARestorerError: if transformers cannot be imported.
    """
    folder = Path(folder)
    with damage_named(str(folder), _ADVICE):
        config, tokenizer = _config_and_tokenizer(folder, channels)
        tensors, _ = read_checkpoint(folder)
        model = _empty_model(folder, config, tensors)
        _fill(folder, model, tensors, dtype, device)
    return TextEncoder(tokenizer, model.eval().requires_grad_(False))


def check_width(folder: Path, channels: int) -> None:
    """Check configuration and tokenizer of a folder, without its weights.

    Raises:
        CheckpointError: if they are not of a T5 whose features have that width.
        VARestorerError: if transformers cannot be imported.
    """
    with damage_named(str(folder), _ADVICE):
        _config_and_tokenizer(folder, channels)


def check_folder(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check everything that `load_text_encoder` checks, except for the values of the folder's tensors.

    Raises:
        CheckpointError: if the folder is not a complete T5.
        VARestorerError: if transformers cannot be imported.
    """
    with damage_named(str(folder), _ADVICE):
        config, _ = _config_and_tokenizer(folder, None)
        _empty_model(folder, config, tensors)


def _config_and_tokenizer(folder: Path, channels: int | None) -> tuple[Any, Any]:
    for file in folder.iterdir() if folder.is_dir() else ():
        if not file.is_dir():
            check_regular(file, CheckpointError)  # transformers would wait for a pipe
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is not a folder with a config.json. {_ADVICE}")
    try:
        from transformers import (  # pyright: ignore[reportMissingImports]
            AutoConfig,
            AutoTokenizer,
        )
    except ImportError as error:
        raise VARestorerError(
            f"A prompt needs the package transformers, which cannot be imported ({shown(error)}). "
            "Run: pip install transformers sentencepiece"
        ) from error
    # No code and no pickled object of the folder is run, and the user is not asked to allow it.
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _check_config(folder, config, channels)
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return config, tokenizer


def _empty_model(folder: Path, config: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the encoder on the meta device, if the tensors have the shapes of its parameters."""
    from transformers import T5EncoderModel  # pyright: ignore[reportMissingImports]

    _check_shapes(folder, config, tensors)
    with torch.device("meta"):
        model = T5EncoderModel(config)
    for key, like in model.state_dict().items():
        stored = tensors.get(key)
        if key != _TIED and (stored is None or stored.shape != like.shape):
            found = "lacks it" if stored is None else f"has it with shape {tuple(stored.shape)}"
            raise CheckpointError(
                f"{folder} does not fit its config.json: {key} must be {tuple(like.shape)}, but the file "
                f"{found}. {_ADVICE}"
            )
    return model


def _fill(
    folder: Path,
    model: Any,
    tensors: dict[str, Tensor],
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Fill the encoder with weights, checked and copied from the mapped files."""
    filled: dict[str, Tensor] = {}
    for key in model.state_dict():
        if key == _TIED:
            continue
        stored = tensors.pop(key)
        if not is_finite(stored):
            raise CheckpointError(f"{folder} has NaN or infinite values in {key}. {_ADVICE}")
        tensor = stored.to(device, dtype)
        filled[key] = off_the_map(tensor) if tensor.data_ptr() == stored.data_ptr() else tensor
        release_mapped(stored)
    filled[_TIED] = filled["shared.weight"]
    model.load_state_dict(filled, assign=True)
    model.encoder.embed_tokens.weight = model.shared.weight


def _check_shapes(folder: Path, config: Any, tensors: Mapping[str, Tensor]) -> None:
    """Reject a config.json that describes another network than the weights, before it is built."""
    names = {
        f"encoder.block.{index}.layer.0.SelfAttention.q.weight" for index in range(len(tensors))
    }
    layers = len(names & tensors.keys())
    embedding = tensors.get("shared.weight")
    shape = () if embedding is None else tuple(embedding.shape)
    if config.num_layers != layers or shape != (config.vocab_size, config.d_model):
        raise CheckpointError(
            f"{folder} does not fit its config.json: that has {shown(config.num_layers)} layers and an embedding "
            f"{shown((config.vocab_size, config.d_model))}, but the weights have {layers} and {shape}. {_ADVICE}"
        )
    inner = tensors["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] if layers else 0
    if config.num_heads * config.d_kv != inner:
        raise CheckpointError(
            f"{folder} does not fit its config.json: that has {shown(config.num_heads)} heads of "
            f"{shown(config.d_kv)} channels, but the weights have {inner} channels in total. {_ADVICE}"
        )


def _check_config(folder: Path, config: Any, channels: int | None) -> None:
    if config.model_type != "t5":
        raise CheckpointError(
            f"{folder} holds a model of type {shown(repr(config.model_type))}; expected a T5, such as "
            "flan-t5-xl."
        )
    if channels is not None and config.d_model != channels:
        raise CheckpointError(
            f"{folder} produces text features of width {config.d_model}, but the transformer expects "
            f"{channels}. Use the text encoder that it was trained with: flan-t5-xl has width 2048."
        )
