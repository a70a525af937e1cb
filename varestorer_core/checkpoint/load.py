"""Loading of networks from state dicts: build on the meta device, check the keys, fill tensor by tensor.

Each tensor is merged, cast and checked separately and its source released, so memory holds the network and one tensor
instead of two copies of the network.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TokenizerConfig, TransformerConfig
from ..errors import CheckpointError, SettingError
from ..kernels import accelerate
from ..lora.factors import LowRank, low_ranks, merged_tensor, split_adapter
from ..models.attention import AttentionFn
from ..models.layers import BlankLayers
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..wording import counted
from .check import (
    expected_parameters,
    fits_float8,
    is_finite,
    is_float8,
    key_problems,
    unused_names,
    unused_note,
)
from .files import damage_named
from .identify import SOURCES, CheckpointInfo, describe_kind, identify
from .keys import rename_tensors
from .mapped import off_the_map, release_mapped
from .state_dict import unwrap

_log = logging.getLogger(__name__)


def load_transformer(
    state_dict: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    name: str = "The file",
    operations: Any = BlankLayers,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    compute_dtype: torch.dtype | None = None,
    attention: AttentionFn | None = None,
    merge: bool = True,
    consume: bool = False,
) -> VARTransformer:
    """Build the transformer that a state dict describes, in evaluation mode.

    Args:
        state_dict: in an official layout or ours, possibly nested as in files.
        metadata: of a safetensors file.
        name: of the file, for messages.
        operations: namespace of layer classes; default those of `torch.nn`.
        dtype: of the blocks' matrices, default float32; the rest stays in float32. A float8 type applies only to
            matrices, not to biases; it needs `operations` whose layers cast weights to the dtype of their input, such
            as `CastLayers`, and a wider `compute_dtype`.
        device: of the parameters; default that of the tensors.
        compute_dtype: dtype in which the blocks multiply; default `dtype`.
        attention: see `models.attention.AttentionFn`.
        merge: add adapters to the weights that they correct; false keeps them as `LoRALinear`.
        consume: empty `state_dict` to free its tensors on the way. Otherwise, parameters whose dtype and device
            do not change share memory with it, and with the memory-mapped file behind it.

    Raises:
        CheckpointError: if it is not a transformer, or damaged.
        SettingError: for a float8 type without a wider one to multiply in.
    """
    if is_float8(dtype) and (compute_dtype is None or is_float8(compute_dtype)):
        raise SettingError(
            f"{dtype} is a storage type: compute_dtype must be a wider type such as torch.bfloat16, "
            f"got {compute_dtype}."
        )
    tensors, info = _take(state_dict, metadata or {}, "transformer", name, consume)
    config = info.config
    assert isinstance(config, TransformerConfig)
    owners: dict[str, LowRank] = {}
    if merge and config.lora_rank:
        tensors, owners = _split(tensors, name)
        config = replace(config, lora_rank=0)
    extra: dict[str, Any] = {} if attention is None else {"attention": attention}
    model = VARTransformer(
        config,
        operations=operations,
        dtype=dtype,
        device="meta",
        compute_dtype=compute_dtype,
        **extra,
    )
    expected = expected_parameters(config, dtype)
    if is_float8(dtype):
        # A bias has a thousandth of its matrix's elements, so float8 would save nothing but shift the layer's output.
        expected = {key: like if like.ndim > 1 else like.float() for key, like in expected.items()}
    _fill(model, tensors, owners, expected, device, name, consume)
    return accelerate(model.eval())


def load_tokenizer(
    state_dict: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
    *,
    name: str = "The file",
    operations: Any = BlankLayers,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    decoder_dtype: torch.dtype | None = None,
    consume: bool = False,
) -> VisualTokenizer:
    """Build the visual tokenizer that a state dict describes, in evaluation mode.

    Adapters in its convolutions are merged. See `load_transformer` for the arguments.

    Args:
        dtype: of all parameters, default float32.
        decoder_dtype: of the decoder's parameters, if different.

    Raises:
        CheckpointError: if it is not a tokenizer, or damaged.
    """
    tensors, info = _take(state_dict, metadata or {}, "tokenizer", name, consume)
    config = info.config
    assert isinstance(config, TokenizerConfig)
    # Deviation from upstream: unused tensors are named in the log, and an adapter that fits no weight is an error;
    # upstream silently ignores both.
    tensors, owners = _split(tensors, name)
    model = VisualTokenizer(
        config, operations=operations, dtype=dtype, device="meta", decoder_dtype=decoder_dtype
    )
    expected = expected_parameters(config, dtype)
    if decoder_dtype is not None:
        expected = {
            key: like.to(decoder_dtype) if key.startswith("decoder.") else like
            for key, like in expected.items()
        }
    _fill(model, tensors, owners, expected, device, name, consume)
    return accelerate(model.eval())


def _take(
    state_dict: Mapping[str, Any], metadata: Mapping[str, str], kind: str, name: str, consume: bool
) -> tuple[dict[str, Tensor], CheckpointInfo]:
    """Return the tensors by our names and their identification, if they are of the expected kind."""
    tensors = unwrap(state_dict, kind, name=name, consume=consume)
    info = identify(tensors, metadata)
    if info.kind != kind:
        raise CheckpointError(
            f"{name} is {info.description}, expected {describe_kind(kind)}. Use {SOURCES[kind]}."
        )
    try:
        if info.problems:
            raise CheckpointError(" ".join(info.problems))
        with damage_named("The file"):
            return rename_tensors(tensors, kind), info
    except CheckpointError as error:
        raise CheckpointError(f"{name} cannot be used: {error}") from error


def _split(tensors: dict[str, Tensor], name: str) -> tuple[dict[str, Tensor], dict[str, LowRank]]:
    base, adapter = split_adapter(tensors)
    try:
        return base, low_ranks(base, adapter)
    except CheckpointError as error:
        raise CheckpointError(f"{name} cannot be used: {error}") from error


def _fill(
    model: nn.Module,
    tensors: dict[str, Tensor],
    owners: dict[str, LowRank],
    expected: Mapping[str, Tensor],
    device: torch.device | str | None,
    name: str,
    consume: bool,
) -> None:
    """Fill the model's parameters and empty `tensors`. Unused tensors are named in the log.

    Args:
        consume: whether no other code needs the tensors, so that pages of a mapped file can be released.
    """
    problems, unused = key_problems(tensors, expected), unused_names(tensors, expected)
    if problems:
        raise CheckpointError(
            f"{name} does not fit its architecture: {' '.join(problems)} "
            "It is damaged, or from a variant that is not supported; download it again."
        )
    if unused:
        _log.warning("%s: %s", name, unused_note(unused))
        for key in unused:
            del tensors[key]
    filled: dict[str, Tensor] = {}
    broken: list[str] = []
    for key, like in expected.items():
        stored = tensors.pop(key)
        merged = merged_tensor(key, stored, owners)
        tensor = merged.to(device or stored.device, like.dtype)
        if not (fits_float8(merged, like.dtype) if is_float8(like.dtype) else is_finite(tensor)):
            broken.append(key)
        filled[key] = tensor.contiguous()
        if consume:
            # Truncating a file while it is mapped would end the process.
            if filled[key].data_ptr() == stored.data_ptr():
                filled[key] = off_the_map(stored)
            release_mapped(stored)
    if broken:
        raise CheckpointError(
            f"{name} has {counted(len(broken), 'parameter')} with values that are NaN, infinite or beyond the "
            f"range of the requested type (first: {broken[0]}). Download it again, or use bfloat16."
        )
    model.load_state_dict(filled, strict=True, assign=True)
