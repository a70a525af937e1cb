"""Compilation of the networks with `torch.compile`.

Each block, the encoder and the decoder make one graph, so that a network compiles in the time of one block.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .errors import SettingError
from .models.tokenizer import VisualTokenizer
from .models.transformer import VARTransformer

_OLDEST_CAPABILITY = (7, 0)
"""Of NVIDIA GPUs, for which Triton generates kernels."""


def check_compiling(device: torch.device) -> None:
    """Raise an error if the device cannot compile, before any file is read.

    Raises:
        SettingError: naming what is missing.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise SettingError(
                "compile needs the package triton, which is not installed. It comes with PyTorch "
                "for CUDA on Linux; on Windows install triton-windows. Otherwise disable "
                "compilation."
            )
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST_CAPABILITY:
            raise SettingError(
                "compile needs an NVIDIA GPU of compute capability 7.0 or newer, this one has "
                f"{capability[0]}.{capability[1]}. Disable compilation."
            )
    elif device.type != "cpu":
        raise SettingError(
            f"compile works on CUDA devices and CPUs, got {device.type}. Disable compilation."
        )
    elif not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")):
        raise SettingError(
            "compile needs a C++ compiler on a CPU, and none was found. Install g++, or disable "
            "compilation."
        )


def parts_to_compile(network: nn.Module) -> list[nn.Module]:
    """Return the modules of a network that are compiled, each as one graph."""
    if isinstance(network, VARTransformer):
        return list(network.blocks)
    if isinstance(network, VisualTokenizer):
        return [network.encoder, network.decoder]
    return []


def compile_networks(*networks: nn.Module, **options: Any) -> None:
    """Compile networks in place; each part compiles when it first runs.

    Args:
        options: of `torch.compile`, such as `backend`.
    """
    for network in networks:
        for part in parts_to_compile(network):
            part.compile(**options)


@contextmanager
def compiled(network: nn.Module, options: dict[str, Any] | None) -> Iterator[None]:
    """Context in which a network is compiled with options of `torch.compile`.

    Compiled code is reused for the same options. With None, nothing changes.
    """
    parts = [] if options is None else parts_to_compile(network)
    before = [part._compiled_call_impl for part in parts]
    try:
        for part in parts:
            known = part.__dict__.get("_varestorer_compiled")
            if known is None or known[0] != options:
                part.compile(**(options or {}))
                known = part.__dict__["_varestorer_compiled"] = (options, part._compiled_call_impl)
            part._compiled_call_impl = known[1]
        yield
    finally:
        for part, call in zip(parts, before, strict=True):
            part._compiled_call_impl = call
