"""Minimal replacements of the host's modules, with which `nodes/host/` runs without a ComfyUI."""

import importlib
import sys
import types
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]


class Patcher:
    """Stands for a ModelPatcher."""

    def __init__(self, model, load_device=None, offload_device=None):
        self.model = model
        self.load_device = load_device or torch.device("cpu")


class VAE:
    """Handles pixels like the host's VAE in versions 0.8.0 to 0.33.0."""

    def __init__(self, sd):
        self.device = self.output_device = torch.device("cpu")

    def model_size(self):
        return 0

    def encode(self, pixel_samples):
        pixels = self.process_input(pixel_samples.movedim(-1, 1)).to(self.vae_dtype)
        return self.first_stage_model.encode(pixels.to(self.device)).float()

    def encode_tiled(self, pixel_samples, tile_x=None, tile_y=None, overlap=None):
        return VAE.encode(self, pixel_samples)

    def decode(self, samples_in):
        samples = samples_in.to(self.vae_dtype)
        return self.process_output(self.first_stage_model.decode(samples).float()).movedim(1, -1)


class Host:
    """The replacements, and a record of their calls.

    Args:
        monkeypatch: takes them away again.
    """

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.loads = []
        """(models, keyword arguments) of every `load_models_gpu`."""
        self.freed = []
        for name in ("comfy", "comfy.ldm", "comfy.ldm.modules"):
            self._package(name, None)
        self.management = self._module(
            "comfy.model_management",
            load_models_gpu=lambda models, **asked: self.loads.append((list(models), asked)),
            free_memory=lambda size, device: self.freed.append(size),
            get_free_memory=lambda device: 2.0**40,
            get_torch_device=lambda: torch.device("cpu"),
            module_size=lambda module: 1000,
            vae_offload_device=lambda: torch.device("cpu"),
            vae_dtype=lambda device, allowed: allowed[0],
            xformers_enabled=lambda: False,
            pytorch_attention_flash_attention=lambda: True,
        )
        self.kernels = self._module("comfy.ldm.modules.attention")
        self._module("comfy.model_patcher", ModelPatcher=Patcher)
        self._module("comfy.ops", manual_cast=torch.nn)
        self._module("comfy.sd", VAE=VAE)
        self._module("comfy.utils")
        self._module("comfy.weight_adapter", LoRAAdapter=None)
        self._module("comfy.cli_args", LatentPreviewMethod=None, args=None)
        self._module("folder_paths")
        self._module("server", PromptServer=None)
        # The pack has another name in every installation.
        self._package("pack", ROOT)
        self._package("pack.nodes", ROOT / "nodes")
        self._package("pack.nodes.host", ROOT / "nodes" / "host")

    def load(self, name):
        """Import the module `nodes/host/NAME.py` again and return it."""
        return importlib.import_module(f"pack.nodes.host.{name}")

    def close(self):
        """Remove all modules that were imported with the replacements."""
        for name in [name for name in sys.modules if name.split(".")[0] == "pack"]:
            del sys.modules[name]

    def _package(self, name, folder):
        package = types.ModuleType(name)
        package.__path__ = [] if folder is None else [str(folder)]
        self._set(name, package)

    def _module(self, name, **contents):
        module = types.ModuleType(name)
        vars(module).update(contents)
        self._set(name, module)
        return module

    def _set(self, name, module):
        self._monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


@pytest.fixture
def stand_in(monkeypatch):
    """Return a `Host`."""
    host = Host(monkeypatch)
    yield host
    host.close()
