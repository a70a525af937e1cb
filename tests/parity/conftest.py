"""Values recorded from the official code, and our networks with the same weights.

The set is the folder VARESTORER_GOLDENS, else the complete one beside the project, else the part
kept under tests/parity/goldens. Nothing about a set is known here: widths, ratios, bit counts and
file names come from its index.json and its tensor names.

Every test runs twice: with the CPU kernels, and with the plain networks that other devices run.
"""

import json
import os
import re
from functools import cached_property, lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from varestorer_core.checkpoint import load_tokenizer, load_transformer
from varestorer_core.models.attention import attention
from varestorer_core.schedule import get_schedule

HERE = Path(__file__).parent
COMPLETE = HERE.parents[1].parent / "shared" / "reference" / "goldens"
PART = HERE / "goldens"


@pytest.fixture(autouse=True, params=["CPU kernels", "plain networks"])
def layers(request, monkeypatch):
    """Run with the CPU kernels and without them, where the lines that a GPU runs are run."""
    monkeypatch.setenv("VARESTORER_CPU_KERNELS", "all" if request.param == "CPU kernels" else "off")


class Goldens:
    """One recorded set."""

    def __init__(self, folder):
        self.folder = folder
        self.index = json.loads((folder / "index.json").read_text())
        self.config = self.index["config"]
        self._files = {}

    def load(self, name):
        """Return the tensors of NAME.safetensors, or skip the test if the set lacks it."""
        if name not in self._files:
            path = self.folder / f"{name}.safetensors"
            if not path.exists():
                pytest.skip(f"the set {self.folder.name} has no {path.name}")
            self._files[name] = load_file(path)
        return self._files[name]

    def recorded(self, name, pattern):
        """Yield (match, tensor) of every tensor of NAME whose whole name matches; skip if none does."""
        found = [
            (match, tensor)
            for key, tensor in self.load(name).items()
            if (match := re.fullmatch(pattern, key))
        ]
        if not found:
            pytest.skip(f"{name} of this set has no tensor {pattern!r}")
        return found

    def description(self, name):
        return self.index["files"].get(f"{name}.safetensors", {}).get("description", "")

    @cached_property
    def small(self):
        """The schedule that the set calls small."""
        return get_schedule(
            float(self.config["small_schedule"][0]), self.config["small_schedule"][1]
        )

    def schedule(self, label):
        """Return the schedule of a label such as small, small_batch2 or 512."""
        if label.startswith("small"):
            return self.small
        said = re.search(rf"\b{label} = ratio ([\d.]+) pn ([\d.]+M)", self.description("forward"))
        return get_schedule(float(said[1]), said[2]) if said else get_schedule(1.0, "0.25M")

    def transformer(self, adapters=True, merge=False, dtype=None, attention=attention):
        """Return our transformer with the set's weights, with or without its adapters."""
        tensors = dict(self.load("weights_transformer"))
        if not adapters:
            tensors = {
                key.replace(".linear.", "."): tensor
                for key, tensor in tensors.items()
                if ".lora_" not in key
            }
        return load_transformer(tensors, dtype=dtype, merge=merge, attention=attention)

    def tokenizer(self):
        """Return our tokenizer with the set's weights."""
        return load_tokenizer({"vae": dict(self.load("weights_vae"))})

    def texts(self, name, kv="in.kv"):
        """Return text features (B, T, C) and mask (B, T) of packed rows."""
        rows = self.load(name)[kv]
        if not kv.endswith("batch2"):
            return rows[None], torch.ones(1, len(rows), dtype=torch.bool)
        lengths = self.config["batch_lens"]
        features = torch.zeros(len(lengths), max(lengths), rows.shape[1])
        mask = torch.zeros(features.shape[:2], dtype=torch.bool)
        for i, part in enumerate(rows.split(lengths)):
            features[i, : len(part)] = part
            mask[i, : len(part)] = True
        return features, mask


@lru_cache(maxsize=1)
def the_set():
    named = os.environ.get("VARESTORER_GOLDENS")
    folders = [Path(named)] if named else [COMPLETE, PART]
    for folder in folders:
        if (folder / "index.json").exists():
            return Goldens(folder)
    raise pytest.UsageError(f"no index.json in {' or '.join(map(str, folders))}")


def pytest_report_header(config):
    return f"goldens: {the_set().folder}"


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def goldens():
    return the_set()


@pytest.fixture
def close(record_property):
    """Compare with limits on the largest and the root mean square difference, and report both."""

    def check(name, actual, expected, largest, rms=None):
        assert actual.shape == expected.shape, f"{name}: {actual.shape} is not {expected.shape}"
        difference = (actual.double() - expected.double()).abs()
        worst = difference.max().item()
        mean = difference.square().mean().sqrt().item()
        record_property(name, f"max {worst:.2e} rms {mean:.2e}")
        assert worst <= largest, f"{name}: differs by {worst:.3g} (limit {largest}), rms {mean:.3g}"
        assert rms is None or mean <= rms, f"{name}: rms {mean:.3g} (limit {rms}), max {worst:.3g}"

    return check


@pytest.fixture
def same_picture(record_property):
    """Compare 8-bit pictures: at most 1 % of the values off by one, none by more."""

    def check(name, actual, expected):
        assert actual.shape == expected.shape, f"{name}: {actual.shape} is not {expected.shape}"
        difference = (actual.int() - expected.int()).abs()
        share = (difference > 0).float().mean().item()
        record_property(name, f"{share:.3%} off, by at most {difference.max().item()}")
        assert difference.max() <= 1, f"{name}: a value is off by {difference.max().item()}"
        assert share <= 0.01, f"{name}: {share:.2%} of the values are off by one (limit 1 %)"

    return check
