"""Zip archives that show each reader other records, and records of other sizes than their tensors, are refused."""

import struct
import zipfile
import zlib

import pytest
import torch

from varestorer_core.checkpoint import read_checkpoint
from varestorer_core.checkpoint.files import check_file
from varestorer_core.checkpoint.pickles import read_pickle
from varestorer_core.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.arange(300.0), "b": torch.ones(700, dtype=torch.bfloat16)}, path)
    return path


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"^model\.pth "):
        check_file(path)
    return str(caught.value)


def rewritten(path, change):
    """Write the archive anew; `change` returns the content of a record, or None to leave it out."""
    with zipfile.ZipFile(path) as archive:
        records = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            if (content := change(name.partition("/")[2], content)) is not None:
                archive.writestr(name, content)


def entry(name, content, method, size, offset):
    head = (20, 20, 0, method, 0, 0x21, 0, len(content), size, len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\1\2", *head) + name


def record(name, content, method, size):
    head = (20, 0, method, 0, 0x21, zlib.crc32(content), len(content), size, len(name), 0)
    return struct.pack("<4s5H3I2H", b"PK\3\4", *head) + name + content


def test_two_directories_are_refused(path, monkeypatch):
    """`zipfile` assumes that the directory is right before its end record, PyTorch reads it where the record says."""
    name, bomb = b"model/data.pkl", zlib.compress(b"N" * 10**6)[2:-4]
    version = record(b"model/version", b"3", 0, 1)
    records = [record(name, bomb, 8, 10**6), version, record(name, b"}.", 0, 2), version]
    places = [sum(map(len, records[:index])) for index in range(5)]
    length = len(entry(name, b"", 0, 0, 0) + entry(b"model/version", b"", 0, 0, 0))
    read_by_pytorch = entry(name, bomb, 8, 10**6, 0) + entry(
        b"model/version", b"3", 0, 1, places[1]
    )
    shift = [(place - length) % 2**32 for place in places]
    read_by_zipfile = entry(name, b"}.", 0, 2, shift[2]) + entry(
        b"model/version", b"3", 0, 1, shift[3]
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, length, places[4], 0)
    path.write_bytes(b"".join(records) + read_by_pytorch + read_by_zipfile + end)
    assert torch._C.PyTorchFileReader(str(path)).get_record_offset("data.pkl") < places[1]
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("model/data.pkl").file_size == 2  # what the check of sizes would see
    monkeypatch.setattr(torch._C.PyTorchFileReader, "get_record", None)
    assert "a list of records that programs read differently" in refusal(path)


@pytest.mark.parametrize("more", [b"junk", b"\0" * 22, b"PK\5\6" + bytes(18)])
def test_data_behind_the_archive_is_refused(path, more):
    path.write_bytes(path.read_bytes() + more)
    refusal(path)


def test_data_before_the_archive_is_refused(path):
    path.write_bytes(bytes(1000) + path.read_bytes())
    with pytest.raises(CheckpointError):
        read_pickle(path, zipped=True)


@pytest.mark.parametrize("place", [8, 40, 48])
def test_wide_end_records_that_lead_elsewhere_are_refused(path, place):
    """Offsets: those of the wide record in its locator, and of size and offset of the directory in the record."""
    content = bytearray(path.read_bytes())
    start = len(content) - (42 if place == 8 else 98)
    content[start + place] ^= 1
    path.write_bytes(content)
    refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["data/0", "DATA/0"])
def test_records_of_one_name_are_refused(path, name):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"model/{name}", bytes(1200))
    assert "two records with the same name" in refusal(path)


def test_records_that_overlap_are_refused(path):
    rewritten(path, lambda _, content: content)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(f"model/data/{key}") for key in "01")
    at = content.rindex(b"model/data/1") - 46
    struct.pack_into("<2I", content, at + 20, first.file_size, first.file_size)
    struct.pack_into("<I", content, at + 42, first.header_offset)
    assert second.header_offset != first.header_offset
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("size", [1199, 1201, 8, 0, None])
def test_a_record_of_another_size_is_named(path, size):
    def change(name, content):
        return content if name != "data/0" else (None if size is None else bytes(size))

    rewritten(path, change)
    found = "is missing" if size is None else f"has {size:,} bytes"
    assert f"the record data/0 {found}, but its tensor has 1,200." in refusal(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_tensors_of_every_type_keep_their_values(tmp_path, zipped):
    types = [
        getattr(torch, name)
        for name in ("float64", "float16", "int64", "bool", "complex64", "int8")
    ]
    tensors = {str(dtype): torch.ones(3, 2, dtype=dtype).t() for dtype in types}
    for dtype in (torch.uint16, torch.float8_e4m3fn) if zipped else ():  # untyped bytes with a type
        tensors[str(dtype)] = torch.arange(8, dtype=torch.uint8).view(dtype)
    path = tmp_path / "model.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    found = read_pickle(path, zipped=zipped)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        same = found[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)
        assert torch.equal(*same), name


def test_a_typed_tensor_beyond_its_bytes_is_refused(path):
    torch.save({"a": torch.arange(8, dtype=torch.uint8).view(torch.uint16)}, path)
    rewritten(path, lambda _, content: content.replace(b"K\x04\x85", b"K\x08\x85"))
    assert "damaged" in refusal(path)
