"""Creation of a `Restorer` from files, by default from the bundled ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sized
from dataclasses import replace
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .assets import ADAPTERS, TINY_TRANSFORMER, asset_path, bundled_adapter, bundled_vae
from .checkpoint import identify, load_tokenizer, load_transformer, read_checkpoint
from .checkpoint import verify as verify_checksums
from .checkpoint.identify import SOURCES, describe_kind
from .checkpoint.save import BASE_SHA256, sha256
from .cleaner import Cleaner, load_cleaner
from .compiling import check_compiling, compile_networks
from .config import TransformerConfig
from .devices import choose_device, choose_dtype
from .errors import CheckpointError, SettingError
from .loaded import LoadedStages
from .lora.factors import apply_adapter
from .lora.file import adapted_config, load_adapter
from .lora.recommended import recommended_by
from .models.transformer import VARTransformer
from .pipeline import DEFAULTS
from .precision import decoder_dtype
from .restorer import Restorer
from .schedule import PIXEL_CLASSES, classes_by_side

_log = logging.getLogger(__name__)

File = str | PathLike[str]


def load_restorer(
    model: File | None = None,
    vae: File | None = None,
    *,
    cleaner: File | None = None,
    adapters: Iterable[File | tuple[File, float]] = (),
    text_encoder: File | None = None,
    prompt: str | None = None,
    prompts: Iterable[str] = (),
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool = False,  # noqa: A002 (named like torch.compile)
    verify: bool = False,
    tile: int | None = None,
) -> Restorer:
    """Load the networks of a restoration.

    The largest file is loaded last, so that errors in the others are raised early.

    Args:
        model: the transformer, such as varestorer.pth; None means the bundled tiny model.
        vae: the visual tokenizer of the same family, such as infinity_vae_d32reg.pth; None means the bundled one,
            "crisp" the bundled one with the decoder for crisp pictures.
        cleaner: SwinIR, such as general_swinir_v1.ckpt, which the official model expects; needs spandrel.
        adapters: low-rank adapters of the transformer, each a file or a pair (file, strength from 0 to 2); a name in
            `assets.ADAPTERS`, such as "rain", means the bundled one, for the bundled transformer. The settings
            that they recommend, the last one's where several differ, become the restorer's `defaults`.
        text_encoder: a local folder of flan-t5-xl, for `prompt` and `prompts`; needs transformers.
        prompt: description of the pictures; None means the learned "no prompt".
        prompts: further prompts, for `Restorer.restore(..., prompt=...)`. They are iterated after all files but the
            transformer and the text encoder were loaded, so a generator may write captions with another network.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: of the transformer's matrices and of the text encoder: "auto", "fp32", "bf16" or "fp16". Beside bf16
            the decoder follows where the device is fast in it.
        compile: compile transformer and tokenizer with `torch.compile`, which takes a while at their first tiles.
        verify: compare the files with the checksums that they carry before they are loaded, which reads each once
            more. The log names files without any.
        tile: side of a tile in pixels, of one of the classes in `schedule.PIXEL_CLASSES`; None means the model's own.

    Raises:
        CheckpointError: for a file that is missing or is not what it should be.
        SettingError: for files that do not belong together, or a device that is not available or cannot compile.
    """
    if isinstance(prompts, str):
        raise SettingError("prompts must be a list of texts; prompt is a single one.")
    further = not isinstance(prompts, Sized) or len(prompts) > 0  # a generator is iterated later
    if (prompt is not None or further) != (text_encoder is not None):
        raise SettingError(
            "Expected both prompts and text_encoder, got only one of them. Specify both, or neither."
        )
    device = choose_device(device)
    dtype = choose_dtype(dtype, device)
    if compile:
        check_compiling(device)
    model_path = _path("model", model) if model is not None else asset_path(TINY_TRANSFORMER)
    vae_path = bundled_vae(vae) or _path("vae", vae)
    added = _with_strengths(adapters)
    if verify:
        _verify([model_path, vae_path, cleaner, text_encoder, *(path for path, _ in added)])
    tensors, metadata = read_checkpoint(model_path, kind="transformer")
    config = identify(tensors, metadata).config
    if not isinstance(config, TransformerConfig):
        # Another kind of file or a damaged one: the loader raises an error that says so.
        load_transformer(tensors, metadata, name=str(model_path))
        raise AssertionError("a file that is not a transformer was loaded as one")
    decoding = decoder_dtype(dtype, device)
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
        raise SettingError(
            f"{model_path} uses {config.codebook_dim} bits per token, but {vae_path} uses "
            f"{tokenizer.config.codebook_dim}. Choose a model and a VAE of the same family, or neither "
            "for the bundled pair."
        )
    if tile is not None:
        config = replace(config, pixel_class=_class_of(tile, config, tokenizer.config.patch_size))
    cleaning = None if cleaner is None else _load_cleaner(cleaner, decoding, device)
    encoded = _encode_prompts(text_encoder, prompt, prompts, config.text_channels, device, dtype)
    transformer = load_transformer(
        tensors, metadata, name=str(model_path), dtype=dtype, device=device, consume=True
    )
    defaults = DEFAULTS
    for path, strength in added:
        recommended = _apply_adapter(transformer, path, strength, model_path, metadata)
        defaults = defaults.with_changes(recommended)
    if not transformer.config.cross_scale:
        _log.warning("the student restores without cross-scale attention, as it was trained")
    if tile is not None:
        transformer.config = replace(transformer.config, pixel_class=config.pixel_class)
    stages = LoadedStages(transformer, tokenizer, cleaning, None, device, encoded)
    if prompt is None:
        with torch.inference_mode():
            stages = replace(stages, text=transformer.encode_text(device=device))
    else:
        stages = stages.prompted(prompt)
    if compile:
        compile_networks(transformer, tokenizer)
    return Restorer(stages, defaults)


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str | PathLike) or not str(value):
        raise SettingError(
            f"{name} must be the path of a file, or None for the bundled one, got {value!r}."
        )
    return Path(value)


def _with_strengths(adapters: Any) -> list[tuple[Path, float]]:
    """Return (file, strength) of each adapter; a single path is one adapter, a mapping has strengths by file."""
    if adapters is None:
        return []
    if isinstance(adapters, Mapping):
        adapters = adapters.items()
    if not isinstance(adapters, str | PathLike | Iterable):
        raise SettingError(
            f"adapters must be a file, a list of files or a mapping of strengths, got {adapters!r}."
        )
    each = [adapters] if isinstance(adapters, str | PathLike) else list(adapters)
    pairs = []
    for adapter in each:
        pair = tuple(adapter) if isinstance(adapter, tuple | list) else (adapter, 1.0)
        if len(pair) != 2 or not isinstance(pair[1], Real) or not 0 <= float(pair[1]) <= 2:
            raise SettingError(
                f"An adapter must be a file or a pair (file, strength from 0 to 2), got {adapter!r}."
            )
        if not isinstance(pair[0], str | PathLike) or not str(pair[0]):
            raise SettingError(f"An adapter must be the path of a file or a name, got {pair[0]!r}.")
        file = bundled_adapter(pair[0]) or Path(pair[0])
        if not file.exists():
            raise SettingError(
                f"The adapter {file} does not exist. Expected a file, or one of {', '.join(ADAPTERS)} for the "
                "bundled model."
            )
        pairs.append((file, float(pair[1])))
    return pairs


def pixel_class_of(tile: int, patch_size: int) -> str:
    """Return the pixel class whose square tiles have a side of `tile` pixels, for a tokenizer with that patch size.

    Raises:
        SettingError: if no class has such tiles.
    """
    sides = classes_by_side(patch_size)
    if tile not in sides:
        raise SettingError(
            f"A tile must have a side of {', '.join(map(str, sides))} pixels with this tokenizer, got {tile}."
        )
    return sides[tile]


def _class_of(tile: int, config: TransformerConfig, patch_size: int) -> str:
    """Return the pixel class of a tile, if the model has a level embedding for all of its scales."""
    pixel_class = pixel_class_of(tile, patch_size)
    needed = PIXEL_CLASSES[pixel_class] + 1  # with the appended code map
    if config.level_rows < needed:
        raise SettingError(
            f"Tiles of {tile} pixels need {needed} rows of the level embedding, but this model has "
            f"{config.level_rows}. Choose a smaller tile."
        )
    return pixel_class


def _verify(files: Iterable[File | None]) -> None:
    for file in files:
        if file is not None and not verify_checksums(Path(file)):
            _log.warning("%s has no checksum, so it was not verified", file)


def _apply_adapter(
    transformer: VARTransformer,
    path: Path,
    strength: float,
    model_path: Path,
    model_metadata: dict[str, str],
) -> dict[str, Any]:
    """Merge one adapter file into the transformer, if it was trained on it, and return the settings it recommends."""
    tensors, metadata = read_checkpoint(path)
    base = model_metadata.get("varestorer.source_sha256", "")
    if BASE_SHA256 in metadata and not base:
        base = sha256(model_path)
    config = adapted_config(transformer.config, identify(tensors, metadata).config)
    owners = load_adapter(
        tensors, metadata, transformer.state_dict(), config, base_sha256=base, name=path.name
    )
    if strength:
        transformer.config = config
    apply_adapter(transformer, owners, strength)
    return recommended_by(metadata, path.name).settings if strength else {}


def _load_cleaner(path: File, compute_dtype: torch.dtype, device: torch.device) -> Cleaner:
    tensors, metadata = read_checkpoint(Path(path))
    info = identify(tensors, metadata)
    if info.kind != "cleaner":
        raise CheckpointError(
            f"{path} is {info.description}, expected {describe_kind('cleaner')}. "
            f"Use {SOURCES['cleaner']}."
        )
    return load_cleaner(tensors, name=str(path), compute_dtype=compute_dtype, device=device)


def _encode_prompts(
    folder: File | None,
    prompt: str | None,
    prompts: Iterable[str],
    channels: int,
    device: torch.device,
    dtype: Any,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return features and mask of every prompt on the CPU; the encoder is released afterwards."""
    if folder is None:
        return {}
    from .text_encoder import check_width, load_text_encoder

    check_width(Path(folder), channels)  # before captions are written
    texts = [*([] if prompt is None else [prompt]), *prompts]
    if not texts:
        return {}
    encoder = load_text_encoder(Path(folder), channels=channels, dtype=dtype, device=device)
    return {text: encoder.encode(text) for text in dict.fromkeys(texts)}
