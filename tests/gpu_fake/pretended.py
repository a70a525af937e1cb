"""A pretended device: tensors that report a GPU as their device but have their values in main memory.

Every operator runs on the values, so results are those of the CPU, and what a GPU would refuse or wait for is recorded:
tensors of two devices in one operator, values that the host reads, copies between host and device, operators run.
`guard.cpp` lets the CPU build of PyTorch believe in a CUDA device, as backward passes and autocast need. It has to be
loaded before torch, see `inside.py`.

What is not pretended: kernels, their rounding, memory. It proves placement, types and counts, not speed.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

aten = torch.ops.aten

_READS = (aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default)
_SIZED_BY_VALUES = ("aten::nonzero", "aten::masked_select", "aten::_unique2")
_MOVES = ("aten::_to_copy", "aten::copy_", "aten::to")
_INDEXED = ("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_")
_OURS = ("varestorer_core", "/nodes/")


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> PretendedTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        tensor.held = held
        return tensor

    def __repr__(self, **_) -> str:
        return f"PretendedTensor({self.held!r}, device={self.device})"

    def tolist(self) -> list:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol):
        return self.held.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} ran outside of PretendedDevice")


class PretendedDevice(TorchDispatchMode):
    """While it is active, tensors can be on the device, and operations there are recorded."""

    def __init__(self, kind: str = "cuda"):
        super().__init__()
        self.device = torch.device(kind, 0)
        self.reads: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()
        self.dtypes: dict[str, set[torch.dtype]] = {}

    def __enter__(self):
        # Otherwise torch.tensor(..., device=...) would go past this mode.
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._before)
        return super().__exit__(*error)

    def clear(self) -> None:
        """Clear the record."""
        for counter in (self.reads, self.copies, self.operators, self.dtypes):
            counter.clear()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat, _ = tree_flatten((args, kwargs))
        tensors = [a for a in flat if isinstance(a, torch.Tensor)]
        ours = [t for t in tensors if isinstance(t, PretendedTensor)]
        name = func._schema.name
        asked = kwargs.get("device")
        asked = None if asked is None else torch.device(asked)
        if asked is not None and asked.type == self.device.type:
            there, kwargs["device"] = True, torch.device("cpu")
        else:
            there = bool(ours) and asked is None
        self._look(func, name, args, kwargs, tensors, ours, there)
        if name == "aten::_to_copy" and asked is not None:
            kwargs.pop("non_blocking", None)
            kwargs.pop("pin_memory", None)
        inner_args, inner_kwargs = tree_map_only(PretendedTensor, lambda t: t.held, (args, kwargs))
        out = func(*inner_args, **inner_kwargs)
        if name == "aten::copy_":
            return args[0]
        if not there:
            return out
        known = {id(t.held): t for t in ours}  # in-place operators return what they were given

        def wrap(held: torch.Tensor) -> torch.Tensor:
            found = known.get(id(held))
            return PretendedTensor(held, self.device) if found is None else found

        return tree_map_only(torch.Tensor, wrap, out)

    def _look(self, func, name, args, kwargs, tensors, ours, there) -> None:
        if not ours and not there:
            return
        if func in _READS or name in _SIZED_BY_VALUES:
            self.reads[f"{name} at {_where()}"] += 1
            return
        if name == "aten::repeat_interleave" and kwargs.get("output_size") is None and there:
            self.reads[f"{name} without output_size at {_where()}"] += 1
        if name in _INDEXED and any(
            t.dtype in (torch.bool, torch.uint8) for t in args[1] if t is not None
        ):
            self.reads[f"{name} by a mask at {_where()}"] += 1
        if name in _MOVES:
            source = args[1] if name == "aten::copy_" else args[0]
            to_device = isinstance(args[0], PretendedTensor) if name == "aten::copy_" else there
            if isinstance(source, PretendedTensor) != to_device:
                way = "to device" if to_device else "to host"
                self.copies[f"{way} {tuple(source.shape)} {source.dtype} at {_where()}"] += 1
                return
        elif ours:
            strangers = [t for t in tensors if not isinstance(t, PretendedTensor) and t.ndim > 0]
            if strangers and name in _INDEXED:
                self.copies[f"indices to device at {_where()}"] += 1
            elif strangers:
                shapes = [tuple(t.shape) for t in strangers]
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but {name} at {_where()} got {shapes} on the "
                    f"CPU beside tensors on {self.device}"
                )
        if not _is_view(func):
            self.operators[name] += 1
            self.dtypes.setdefault(name, set()).update(t.dtype for t in ours)


def _is_view(func) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _where() -> str:
    """Return the innermost line of ours that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in _OURS) and "gpu_fake" not in name:
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
