"""Run pytest in a process whose PyTorch has a pretended CUDA device: `python inside.py LIBRARY ARGUMENTS...`."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import sys
from pathlib import Path


def main(library: str, arguments: list[str]) -> int:
    """Load the library and torch's own below it, make torch.cuda agree, run the tests."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "lib"
    # What torch would load itself, but with their names visible to the library.
    for name in ("libgomp.so.1", "libc10.so", "libtorch_cpu.so", "libtorch.so"):
        if (folder / name).exists():
            ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    _believe()
    import pytest

    return pytest.main(arguments)


def _believe() -> None:
    import torch

    global _fused
    _fused = torch.nn.functional.scaled_dot_product_attention
    cuda = torch.cuda
    cuda._lazy_init = lambda: None
    cuda._initialized = True
    cuda.is_available = lambda: True
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda.is_bf16_supported = lambda including_emulation=True: True
    cuda.get_device_capability = lambda device=None: (9, 0)
    cuda.device = lambda device: contextlib.nullcontext()
    cuda.synchronize = lambda device=None: None
    cuda.empty_cache = lambda: None
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    # Tensors of a class of their own cannot be made in inference mode.
    torch.inference_mode = _without_gradients
    torch.Tensor.pin_memory = lambda self, *_: self
    # A parameter cannot change its class in place, as moving a module does.
    torch.nn.Module._apply = _apply
    torch.nn.functional.scaled_dot_product_attention = _attention


def _without_gradients(mode=True):
    import torch

    return torch.no_grad() if mode else contextlib.nullcontext()


def _attention(query, key, value, attn_mask=None, *args, **kwargs):
    """Reject inputs that the fused kernels of a GPU reject, unlike the CPU's."""
    import torch

    kind = query.device.type
    if kind != "cpu" and not torch.is_autocast_enabled(kind):  # which casts all of them
        types = {t.dtype for t in (query, key, value)}
        if len(types) != 1:
            raise RuntimeError(f"query, key and value must have one type, got {types}")
        if attn_mask is not None and attn_mask.dtype not in types:
            raise RuntimeError(f"invalid dtype for bias: {attn_mask.dtype} beside {types}")
    if (
        query.device.type == "mps"
    ):  # whose kernel PyTorch looks up by the device before any tensor is asked
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        return (scores if attn_mask is None else scores + attn_mask).softmax(-1) @ value
    return _fused(query, key, value, attn_mask, *args, **kwargs)


def _apply(self, change, recurse=True):
    import torch

    for child in self.children():
        child._apply(change)
    for name, value in self._parameters.items():
        if value is not None:
            with torch.no_grad():
                new = change(value.detach())
            if new.device != value.device or new.dtype != value.dtype:
                self._parameters[name] = torch.nn.Parameter(new, value.requires_grad)
    for name, value in self._buffers.items():
        if value is not None:
            self._buffers[name] = change(value)
    return self


if __name__ == "__main__":
    # So that the tests' own modules are found, and the core below the repository.
    here = Path(__file__).parent
    sys.path[:0] = [str(here), str(here.parents[1])]
    sys.path = [entry for entry in sys.path if entry != os.curdir]
    sys.exit(main(sys.argv[1], sys.argv[2:]))
