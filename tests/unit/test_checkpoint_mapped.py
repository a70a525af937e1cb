import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from varestorer_core.checkpoint import read_checkpoint
from varestorer_core.checkpoint.mapped import release_mapped

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="pages are given back on Linux only"
)


def resident_kilobytes(path):
    """Return how much of a mapped file is resident."""
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
