"""Checks that a checkpoint has the parameters of its architecture, all finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import TokenizerConfig, TransformerConfig
from ..models.layers import BlankLayers
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..wording import counted, shown

_FIRST = 3  # names quoted per problem


def expected_parameters(
    config: TransformerConfig | TokenizerConfig, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Return every parameter of the architecture on the meta device: shapes and dtypes, no memory.

    Built from plain `torch.nn` layers, because a host's layers may not create their weights before they are loaded.
    """
    if isinstance(config, TransformerConfig):
        model = VARTransformer(config, operations=BlankLayers, dtype=dtype, device="meta")
    else:
        model = VisualTokenizer(config, operations=BlankLayers, dtype=dtype, device="meta")
    return model.state_dict()


def key_problems(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return sentences about parameters that are missing or of another shape or type; empty if all is well.

    Unexpected ones are named only if others are missing: a complete file may have more.
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = unused_names(tensors, expected) if missing else []
    misshapen = [
        f"{shown(name)} is {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    mistyped = [
        f"{shown(name)} is {str(tensors[name].dtype).removeprefix('torch.')}, expected floating point"
        for name, like in expected.items()
        if name in tensors and like.is_floating_point() and not tensors[name].is_floating_point()
    ]
    return [
        f"{counted(len(names), 'parameter')} {what} ({_first(names)})."
        for names, what in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshapen, "of the wrong shape"),
            (mistyped, "of the wrong type"),
        )
        if names
    ]


def unused_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that the architecture does not use."""
    return [name for name in tensors if name not in expected]


def unused_note(names: list[str]) -> str:
    """Return a note about the unused tensors of a file."""
    what = "tensor is" if len(names) == 1 else "tensors are"
    return f"{len(names)} {what} not part of the model and not used ({_first(names)})"


def is_finite(tensor: Tensor) -> bool:
    """Return whether no value is NaN, infinite or beyond float32, in one pass without a temporary copy."""
    if tensor.is_meta or not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if is_float8(tensor.dtype):  # has no comparison operators
        tensor = tensor.to(torch.float16)
    low, high = torch.aminmax(tensor)
    if tensor.dtype == torch.float64:  # no network keeps it
        low, high = low.float(), high.float()
    return bool(torch.isfinite(low) & torch.isfinite(high))


def is_float8(dtype: torch.dtype | None) -> bool:
    """Return whether a dtype is an 8-bit floating-point type, which is for storage only."""
    return dtype is not None and dtype.is_floating_point and dtype.itemsize == 1


def fits_float8(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Return whether all values are within the range of a float8 type.

    Call this before the cast: depending on the version of PyTorch, casting turns values beyond the range into NaN or
    into the largest value.
    """
    if tensor.is_meta or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor.to(torch.float16) if is_float8(tensor.dtype) else tensor)
    most = torch.finfo(dtype).max
    return bool((low >= -most) & (high <= most))  # false for NaN


def value_problems(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return a sentence if some parameters are not finite, else nothing."""
    bad = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if not bad:
        return []
    beyond = " in float32" if any(tensors[name].dtype == torch.float64 for name in bad) else ""
    return [
        f"{counted(len(bad), 'parameter')} with NaN or infinite values{beyond} ({_first(bad)})."
    ]


def _first(names: list[str]) -> str:
    return ", ".join(map(shown, names[:_FIRST])) + (", ..." if len(names) > _FIRST else "")
