"""Writing of safetensors files: the library reads them, and a failure leaves nothing behind."""

import errno
import shutil

import pytest
import torch
from safetensors import safe_open

from varestorer_core.checkpoint import safetensors_file as writer
from varestorer_core.checkpoint.safetensors_file import TensorSource, write_safetensors
from varestorer_core.errors import VARestorerError


def source_of(tensor, name="a", make=None):
    return TensorSource(name, tensor.dtype, tuple(tensor.shape), make or (lambda: tensor))


ALL_TYPES = [
    torch.tensor([True, False, True]),
    torch.tensor([[1, -2]], dtype=torch.int64),
    torch.tensor(3.5),
    torch.randn(2, 0, 3),
    torch.randn(3, 5).bfloat16(),
    torch.randn(4, 3).t(),
    torch.randn(7).to(torch.float8_e4m3fn),
    torch.arange(3, dtype=torch.uint8),
]


def test_the_library_reads_what_we_write(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, [source_of(t, f"t{i}") for i, t in enumerate(ALL_TYPES)], {"k": "ü"})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert len(metadata.pop("varestorer.tensors_sha256")) == 64
        assert metadata == {"format": "pt", "k": "ü"}
        assert (8 + int.from_bytes(path.read_bytes()[:8], "little")) % 64 == 0
        for i, tensor in enumerate(ALL_TYPES):
            found = file.get_tensor(f"t{i}")
            assert found.dtype == tensor.dtype
            assert found.shape == tensor.shape
            assert torch.equal(found.float(), tensor.float())


def test_progress(tmp_path):
    calls = []
    sources = [source_of(torch.ones(2), "a"), source_of(torch.ones(3), "b")]
    write_safetensors(tmp_path / "x.safetensors", sources, {}, lambda *args: calls.append(args))
    assert calls == [(8, 20), (20, 20)]


class CancelledError(Exception):
    """Represents any failure while a tensor is created."""


def fail_with(error):
    def make():
        raise error

    return make


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), VARestorerError, "the disk is full"),
        (OSError(errno.EIO, "Input/output error"), VARestorerError, "Input/output error"),
        (CancelledError("cancelled"), CancelledError, "cancelled"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_failure_leaves_the_earlier_file_and_nothing_else(tmp_path, existing, error, raised, words):
    path = tmp_path / "x.safetensors"
    if existing:
        path.write_bytes(b"earlier")
    sources = [source_of(torch.ones(2)), source_of(torch.ones(2), "b", fail_with(error))]
    with pytest.raises(raised, match=words):
        write_safetensors(path, sources, {})
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if existing else [])
    assert not existing or path.read_bytes() == b"earlier"


def test_full_disk_is_seen_before_writing(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("varestorer_core.atomic.shutil.disk_usage", lambda _: usage)
    made = []
    source = source_of(torch.ones(4), make=lambda: made.append(1))
    with pytest.raises(VARestorerError, match="the disk is full"):
        write_safetensors(tmp_path / "x.safetensors", [source], {})
    assert made == []
    assert list(tmp_path.iterdir()) == []


def test_failing_rename(tmp_path, monkeypatch):
    def refuse(_self, _target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(writer.Path, "replace", refuse)
    with pytest.raises(VARestorerError, match="Permission denied"):
        write_safetensors(tmp_path / "x.safetensors", [source_of(torch.ones(2))], {})
    assert list(tmp_path.iterdir()) == []


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(VARestorerError, match="does not exist"):
        write_safetensors(tmp_path / "no" / "x.safetensors", [source_of(torch.ones(2))], {})
