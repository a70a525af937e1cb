"""The networks of a run, from the files that the user named or the bundled ones."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from . import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..cleaner import Cleaner
    from ..config import TransformerConfig
    from ..models.text_conditioning import TextContext
    from ..models.transformer import VARTransformer
    from ..restorer import Restorer


@dataclass(frozen=True)
class ModelFiles:
    """Paths as given on the command line; None takes the bundled file, or does without."""

    model: str | None = None
    vae: str | None = None
    text_encoder: str | None = None
    prompt: str | None = None
    cleaner: str | None = None
    adapters: tuple[str, ...] = ()
    adapter_strength: float = 1.0


@dataclass(frozen=True)
class Models:
    """Everything that a run computes with."""

    restorer: Restorer
    text: TextContext
    device: torch.device


def model_files(args: argparse.Namespace) -> ModelFiles:
    """Return the files that were named, if they exist and belong together.

    Raises:
        UsageError: if not.
    """
    if (args.prompt is None) != (args.text_encoder is None):
        given, lacking = ("--prompt", "--text-encoder FOLDER")
        if args.prompt is None:
            given, lacking = ("--text-encoder", "--prompt TEXT")
        raise UsageError(f"{given} has an effect only together with {lacking}.")
    named = {"--model": args.model, "--vae": args.vae, "--cleaner": args.cleaner}
    for option, path in [*named.items(), *(("--adapter", path) for path in args.adapter)]:
        if path is not None and not Path(path).is_file():
            raise UsageError(f"{option} {path}: no such file.")
    if args.text_encoder is not None and not Path(args.text_encoder).is_dir():
        raise UsageError(f"--text-encoder {args.text_encoder}: no such folder.")
    return ModelFiles(
        args.model,
        args.vae,
        args.text_encoder,
        args.prompt,
        args.cleaner,
        tuple(args.adapter),
        args.adapter_strength,
    )


def load_models(
    files: ModelFiles, *, overlap: int, device: torch.device, dtype: torch.dtype
) -> Models:
    """Load every network of a run, the largest last; what can be wrong is found before that.

    Args:
        overlap: that the tiles are to have, only checked here.
        dtype: of the transformer's matrices and of the text encoder; in bf16 the decoder follows
            where the device is fast in it.

    Raises:
        CheckpointError: for a file that is not what it should be.
        UsageError: for files that do not belong together, or an overlap as large as a tile.
    """
    import torch

    from ..assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
    from ..checkpoint import identify, load_tokenizer, load_transformer, read_checkpoint
    from ..config import TransformerConfig
    from ..precision import decoder_dtype
    from ..restorer import Restorer

    model_path = files.model or asset_path(TINY_TRANSFORMER)
    tensors, metadata = read_checkpoint(model_path, kind="transformer")
    config = identify(tensors, metadata).config
    if not isinstance(config, TransformerConfig):
        # Another kind of file or a damaged one: the loader says what it is and what to use.
        load_transformer(tensors, metadata, name=str(model_path))
        raise AssertionError("a file that is no transformer was loaded as one")
    decoding = decoder_dtype(dtype, device)
    vae_path = files.vae or asset_path(TINY_TOKENIZER)
    tokenizer_tensors, tokenizer_metadata = read_checkpoint(vae_path, kind="tokenizer")
    tokenizer = load_tokenizer(
        tokenizer_tensors,
        tokenizer_metadata,
        name=str(vae_path),
        device=device,
        decoder_dtype=decoding,
        consume=True,
    )
    if config.codebook_dim != tokenizer.config.codebook_dim:
        raise UsageError(
            f"{model_path} reads {config.codebook_dim} bits per token, {vae_path} gives "
            f"{tokenizer.config.codebook_dim}. Give --model and --vae of the same family, or "
            "neither for the bundled pair."
        )
    _check_overlap(config, tokenizer.config.patch_size, overlap)
    cleaner = _load_cleaner(files.cleaner, decoding, device)
    features, mask = _encode_prompt(files, config.text_channels, device, dtype)
    transformer = load_transformer(
        tensors, metadata, name=str(model_path), dtype=dtype, device=device, consume=True
    )
    for path in files.adapters:
        _apply_adapter(transformer, path, files.adapter_strength, Path(model_path), metadata)
    with torch.inference_mode():
        text = transformer.encode_text(features, mask, device=device)
    return Models(Restorer(transformer, tokenizer, cleaner), text, device)


def say_if_bundled(files: ModelFiles) -> None:
    """Tell on stderr that the tiny bundled model is at work, and what that means."""
    if files.model is None:
        print(
            "varestorer: using the bundled tiny model, made for trying out. "
            "Give --model and --vae for the official one.",
            file=sys.stderr,
        )


def _apply_adapter(
    transformer: VARTransformer,
    path: str,
    strength: float,
    model_path: Path,
    model_metadata: dict[str, str],
) -> None:
    """Add one adapter file to the transformer, if it was trained on it."""
    from ..checkpoint import apply_adapter, load_adapter, read_checkpoint
    from ..checkpoint.save import BASE_SHA256, sha256

    tensors, metadata = read_checkpoint(path)
    base = model_metadata.get("varestorer.source_sha256", "")
    if BASE_SHA256 in metadata and not base:
        base = sha256(model_path)
    owners = load_adapter(
        tensors,
        metadata,
        transformer.state_dict(),
        transformer.config,
        base_sha256=base,
        name=Path(path).name,
    )
    apply_adapter(transformer, owners, strength)


def _check_overlap(config: TransformerConfig, patch_size: int, overlap: int) -> None:
    from ..schedule import get_schedule

    tile, _ = get_schedule(1.0, config.pixel_class).pixel_size(patch_size)
    if overlap >= tile:
        raise UsageError(
            f"--overlap must be less than the tile, which is {tile} pixels with this model, "
            f"got {overlap}."
        )


def _load_cleaner(
    path: str | None, compute_dtype: torch.dtype, device: torch.device
) -> Cleaner | None:
    if path is None:
        return None
    from ..checkpoint import identify, read_checkpoint
    from ..checkpoint.identify import SOURCES, describe_kind
    from ..cleaner import load_cleaner

    tensors, metadata = read_checkpoint(path)
    info = identify(tensors, metadata)
    if info.kind != "cleaner":
        raise CheckpointError(
            f"{path} is {info.description}, expected {describe_kind('cleaner')}. "
            f"Use {SOURCES['cleaner']}."
        )
    return load_cleaner(tensors, name=path, compute_dtype=compute_dtype, device=device)


def _encode_prompt(
    files: ModelFiles, channels: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Return the prompt's features and mask on the device; the encoder is gone afterwards."""
    if files.text_encoder is None or files.prompt is None:
        return None, None
    from ..text_encoder import load_text_encoder

    encoder = load_text_encoder(files.text_encoder, channels=channels, dtype=dtype, device=device)
    features, mask = encoder.encode(files.prompt)
    return features.to(device), mask.to(device)
