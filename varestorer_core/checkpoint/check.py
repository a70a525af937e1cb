"""Whether a checkpoint has exactly the parameters of its architecture, all finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import TokenizerConfig, TransformerConfig
from ..models.layers import BlankLayers
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..wording import shown

_FIRST = 3  # names quoted per problem


def expected_parameters(
    config: TransformerConfig | TokenizerConfig, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Return every parameter of the architecture on the meta device: shapes and types, no memory.

    Built from plain `torch.nn`: a host's layers may create their weights only when they are loaded.
    """
    if isinstance(config, TransformerConfig):
        model = VARTransformer(config, operations=BlankLayers, dtype=dtype, device="meta")
    else:
        model = VisualTokenizer(config, operations=BlankLayers, dtype=dtype, device="meta")
    return model.state_dict()


def key_problems(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return sentences about missing and misshapen parameters; empty if all is well.

    Unexpected ones are named only where others are missing: a file that has everything may have more.
    """
    missing = [name for name in expected if name not in tensors]
    unexpected = unused_names(tensors, expected) if missing else []
    misshapen = [
        f"{shown(name)} is {tuple(tensors[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    return [
        f"{len(names)} {'parameter' if len(names) == 1 else 'parameters'} {what} ({_first(names)})."
        for names, what in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshapen, "of the wrong shape"),
        )
        if names
    ]


def unused_names(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that the architecture has no place for."""
    return [name for name in tensors if name not in expected]


def unused_note(names: list[str]) -> str:
    """Say which tensors of a file are left alone."""
    what = "tensor is" if len(names) == 1 else "tensors are"
    return f"{len(names)} {what} not part of the model and not used ({_first(names)})"


def is_finite(tensor: Tensor) -> bool:
    """Whether no value is infinite or NaN; one pass, no temporary copy."""
    if tensor.is_meta or not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    if is_float8(tensor.dtype):  # which has no comparison
        tensor = tensor.to(torch.float16)
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low) & torch.isfinite(high))


def is_float8(dtype: torch.dtype | None) -> bool:
    """Tell whether a type is a floating-point one of 8 bits, which is stored and not computed in."""
    return dtype is not None and dtype.is_floating_point and dtype.itemsize == 1


def fits_float8(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether all values are numbers within the range of a float8 type.

    To be asked before the cast: depending on the version of PyTorch, that turns what is beyond, infinity included, into
    NaN or into the largest number there is.
    """
    if tensor.is_meta or tensor.numel() == 0:
        return True
    low, high = torch.aminmax(tensor.to(torch.float16) if is_float8(tensor.dtype) else tensor)
    most = torch.finfo(dtype).max
    return bool((low >= -most) & (high <= most))  # no comparison with NaN is true


def value_problems(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return a sentence if some parameters are not finite."""
    bad = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if not bad:
        return []
    return [f"{len(bad)} parameters have values that are infinite or NaN ({_first(bad)})."]


def _first(names: list[str]) -> str:
    return ", ".join(map(shown, names[:_FIRST])) + (", ..." if len(names) > _FIRST else "")
