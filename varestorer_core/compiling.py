"""Compilation of the networks with `torch.compile`.

Each block, the encoder and the decoder make one graph, so that a network compiles in the time of one block.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .errors import SettingError
from .models.tokenizer import VisualTokenizer
from .models.transformer import VARTransformer

_OLDEST_CAPABILITY = (7, 0)
"""Of NVIDIA GPUs, for which Triton generates kernels."""
_CPU_COMPILERS = {"darwin": "clang++", "win32": "cl"}
"""The C++ compiler that TorchInductor runs if CXX is not set, by platform; on others g++."""
_LONGEST_REASON = 600
"""Maximum number of characters of PyTorch's reason in an error."""


def check_compiling(device: torch.device) -> None:
    """Raise an error if the device cannot compile, before any file is read.

    Raises:
        SettingError: naming what is missing.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise SettingError(
                "torch.compile needs the package triton, which is not installed. It comes with PyTorch "
                "for CUDA on Linux; on Windows install triton-windows. Otherwise disable "
                "compilation."
            )
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST_CAPABILITY:
            raise SettingError(
                "torch.compile needs an NVIDIA GPU of compute capability 7.0 or newer, this one has "
                f"{capability[0]}.{capability[1]}. Disable compilation."
            )
        if sys.platform == "linux":  # triton-windows brings its own
            _check_compiler("C compiler for Triton", "CC", ("gcc", "clang"))
    elif device.type != "cpu":
        raise SettingError(
            f"torch.compile is supported on CUDA devices and CPUs, got {device.type}. Disable compilation."
        )
    else:
        _check_compiler("C++ compiler", "CXX", (_CPU_COMPILERS.get(sys.platform, "g++"),))


def _check_compiler(what: str, variable: str, names: Sequence[str]) -> None:
    """Raise an error if there is no compiler: the one of an environment variable or, if it is not set, a usual one."""
    chosen = os.environ.get(variable)
    if chosen and shutil.which(chosen) is None:
        raise SettingError(
            f"torch.compile needs a {what}, and the environment variable {variable} names {chosen}, which was not "
            f"found. Set {variable} to a compiler, or disable compilation."
        )
    if not chosen and not any(map(shutil.which, names)):
        raise SettingError(
            f"torch.compile needs a {what}, and none was found. Install {' or '.join(names)}, set the environment "
            f"variable {variable} to another one, or disable compilation."
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
            _compile(part, options)


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
                _compile(part, options or {})
                known = part.__dict__["_varestorer_compiled"] = (options, part._compiled_call_impl)
            part._compiled_call_impl = known[1]
        yield
    finally:
        for part, call in zip(parts, before, strict=True):
            part._compiled_call_impl = call


def _compile(part: nn.Module, options: dict[str, Any]) -> None:
    """Compile a module in place, with errors of the compiler as `SettingError`."""
    part.compile(**options)
    call = part._compiled_call_impl
    assert call is not None  # set by the line before
    part._compiled_call_impl = _explained(call)


def _explained(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a compiled function whose compilation errors are sentences with their reason."""

    @functools.wraps(call)
    def explained(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # as a part of a larger graph
            return call(*args, **kwargs)
        try:
            return call(*args, **kwargs)
        except RuntimeError as error:
            from torch._dynamo.exc import TorchDynamoException

            from .tiles.batching import is_out_of_memory

            if not isinstance(error, TorchDynamoException) or is_out_of_memory(error):
                raise
            raise SettingError(
                f"torch.compile failed: {_reason(error)}. Disable compilation."
            ) from error

    return explained


def _reason(error: BaseException) -> str:
    """Return the reason of a compilation error on one line.

    PyTorch's text begins with the compiler's command, which may be thousands of characters; its output comes last.
    """
    inner = getattr(error, "inner_exception", None) or error
    text = str(inner).strip()
    output = str(getattr(inner, "output", "") or "").strip()
    if output:
        lines = output.splitlines()
        text = "; ".join([line for line in lines if "error" in line.lower()] or lines)
    text = " ".join(text.split()).rstrip(".")
    if len(text) > _LONGEST_REASON:
        half = _LONGEST_REASON // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return f"{type(inner).__name__}: {text}"
