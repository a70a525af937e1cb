"""Devices, dtypes and the memory line."""

import re
from contextlib import nullcontext

import pytest
import torch

from varestorer_core.cli import UsageError
from varestorer_core.cli.device import device_and_dtype, peak_memory
from varestorer_core.devices import choose_device, choose_dtype
from varestorer_core.errors import SettingError
from varestorer_core.precision import decoder_dtype

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
    assert choose_dtype("fp16", CPU) == torch.float16


@pytest.mark.parametrize("emulated", [False, True])
def test_cards_that_only_emulate_bfloat16_take_float16(monkeypatch, emulated):
    asked = []

    def is_supported(including_emulation=True):
        return including_emulation or not emulated

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    monkeypatch.setattr(torch.cuda, "device", lambda device: asked.append(device) or nullcontext())
    device = torch.device("cuda:1")
    expected = torch.float16 if emulated else torch.bfloat16
    assert choose_dtype("auto", device) == expected
    assert asked == [device]
    assert decoder_dtype(torch.bfloat16, device) == (torch.float32 if emulated else torch.bfloat16)


def test_memory_line():
    assert re.fullmatch(r"\d+\.\d GB|unknown", peak_memory(CPU))
