import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from varestorer_core.checkpoint import read_checkpoint
from varestorer_core.checkpoint.mapped import off_the_map, release_mapped

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="pages are given back on Linux only"
)


def resident_kilobytes(path):
    """Return the resident size of a mapped file."""
    total, inside = 0, False
    with Path("/proc/self/smaps").open() as file:
        for line in file:
            if "-" in line.split()[0]:
                inside = line.rstrip().endswith(str(path))
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1])
    return total


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pages_of_a_mapped_file_go_and_come_back(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    weights = {"a": torch.randn(512, 1024), "b": torch.randn(512, 1024)}
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    tensors, _ = read_checkpoint(path)
    assert torch.equal(tensors["a"], weights["a"])
    assert torch.equal(tensors["b"], weights["b"])
    before = resident_kilobytes(path)
    assert before >= 4096
    release_mapped(tensors["a"])
    assert resident_kilobytes(path) <= before - 2000
    assert torch.equal(tensors["a"], weights["a"])


def test_memory_that_is_no_file_is_left_alone():
    tensor = torch.randn(512, 1024)
    copy = tensor.clone()
    release_mapped(tensor)
    release_mapped(tensor[:, ::2])
    release_mapped(torch.zeros(0))
    assert torch.equal(tensor, copy)


CUT_SHORT = """
import os, sys, torch
from varestorer_core.checkpoint import load_tokenizer, read_checkpoint
network = load_tokenizer(*read_checkpoint(sys.argv[1]), name="a", dtype=torch.float32, consume=True)
before = [float(p.sum()) for p in network.parameters()]
os.truncate(sys.argv[1], 0)
assert before == [float(p.sum()) for p in network.parameters()]
print("alive")
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_loaded_network_survives_its_file(tmp_path, make_tokenizer, suffix):
    """Dtypes do not change here, so the weights could stay in the mapped file."""
    path = tmp_path / f"weights{suffix}"
    state = make_tokenizer(base_channels=64).state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    # The number of norm groups is that of the released tokenizers, which 64 channels can be split into.
    done = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, path], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "alive", (done.returncode, done.stderr)


def test_what_is_no_mapped_file_is_not_copied():
    tensor = torch.randn(512, 1024)
    assert off_the_map(tensor) is tensor
