"""Which tensors of a file can be parameters of a network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..wording import shown

_DTYPES = {
    dtype
    for name in (
        *("float64", "float32", "float16", "bfloat16"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
    if (dtype := getattr(torch, name, None)) is not None
}
"""Types that parameters and masks of a network can have. PyTorch lacks operations for the others."""

_MOST_TIES = 4
"""Most bytes of all tensors, relative to those that are stored."""


def tensor_problem(tensor: Tensor) -> str:
    """Return why a tensor of a file cannot be a parameter; empty if it can.

    Only tensors whose every element is stored pass, so that no later size can exceed that of the file.
    """
    if tensor.layout != torch.strided or tensor.is_nested:
        return "a sparse or nested tensor"
    if tensor.dtype not in _DTYPES:
        return f"of the type {tensor.dtype}"
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.is_meta:
        return "a tensor without values"
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:
        return f"a tensor of shape {shown(tuple(tensor.shape))} with {stored} bytes behind it"
    return ""


def sharing_problem(tensors: Iterable[Tensor]) -> str:
    """Return why tensors are much larger than what is stored for them; empty if they are not.

    Tied parameters share their values, so each may be stored once and used a few times. Many views of one storage would
    make a small file a network of any size.
    """
    used, stored = 0, dict[int, int]()
    for tensor in tensors:
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        used += tensor.numel() * tensor.element_size()
    if used <= _MOST_TIES * sum(stored.values()):
        return ""
    return f"its tensors share {sum(stored.values()):,} bytes, but would take {used:,}"
