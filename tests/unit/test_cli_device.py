"""Devices, number types and the memory line."""

import re

import pytest
import torch

from varestorer_core.cli import UsageError
from varestorer_core.cli.device import device_and_dtype, peak_memory
from varestorer_core.devices import choose_device, choose_dtype
from varestorer_core.errors import SettingError

CPU = torch.device("cpu")


def test_auto_takes_the_cpu_where_there_is_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_a_device_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cpu") == CPU
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(SettingError, match="cuda:2: this machine has no such device"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "meta", "xla", ""])
def test_unknown_devices(name):
    with pytest.raises(UsageError, match="--device"):
        device_and_dtype(name, "auto")


def test_types(monkeypatch):
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    assert choose_dtype("fp32", CPU) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert choose_dtype("auto", torch.device("cuda")) == torch.float32


def test_memory_line():
    assert re.fullmatch(r"\d+\.\d GB|unknown", peak_memory(CPU))
