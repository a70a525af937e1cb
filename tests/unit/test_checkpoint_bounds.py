"""Pickles that would take forever or fill the memory are refused; large ones of real checkpoints load."""

import io
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch

from varestorer_core.checkpoint import read_checkpoint, safetensors_file, state_dict
from varestorer_core.checkpoint.files import check_file
from varestorer_core.checkpoint.pickles import archive, bounds, read_pickle, reading
from varestorer_core.errors import CheckpointError

START = b"\x80\x02"


def number(value):
    """Return the instruction for an integer of any size."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(function, *arguments):
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def doubled(levels):
    """Return the instructions for a tuple that contains the one before twice, and so on."""
    content = b"(" + b")q\x00"
    for level in range(levels):
        content += b"h" + bytes([level]) + b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return content + b"th" + bytes([levels])


def storage(numel, key="0"):
    kind = b"ctorch\nFloatStorage\n"
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(numel) + b"tQ"


def tensor(numel, shape, strides, offset=0):
    sizes = [b"(" + b"".join(map(number, values)) + b"t" for values in (shape, strides)]
    return call("torch._utils._rebuild_tensor_v2", storage(numel), number(offset), *sizes, b"\x89N")


def write(path, content, *, zipped):
    content = START + content + b"."
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", content)
            archive.writestr("model/version", "3\n")
            archive.writestr("model/data/0", bytes(16))
        return path
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in head) + content + START + b"].")
    return path


COLLIDING = [number(i * (2**61 - 1)) + b"N" for i in range(1, 20_002)]
HOSTILE = {
    "tuples of shared tuples": (b"}" + doubled(26) + b"Ns", "nests tuples"),
    "such a tuple in a set": (call("builtins.set", b"](" + doubled(26) + b"e"), "nests tuples"),
    "integers of equal hashes": (b"}(" + b"".join(COLLIDING) + b"u", "keys that are not text"),
    "the same in pairs": (
        call("collections.OrderedDict", b"](" + b"\x86".join(COLLIDING) + b"\x86e"),
        "keys that are not text",
    ),
    "millions of instructions": (b"(" + b"N" * 200_001 + b"t", "more instructions"),
    "a text copied again and again": (
        b"(" + text("a" * 10**6) + b"q\x00" + b"c_codecs\nencode\nh\x00\x85R" * 60 + b"t",
        "copies its content",
    ),
    "a byte array of 40 GB": (call("builtins.bytearray", number(40 * 10**9)), "declares its length"),
    "a slow encoding": (call("_codecs.encode", text("a"), text("punycode")), "unusual encoding"),
    "a tensor by its size alone": (
        call("torch.Tensor", number(10**5), number(10**5)),
        r"Python objects \(torch.Tensor\)",
    ),
    "a view beyond its storage": (tensor(4, (4, 4), (4, 1)), "damaged"),
    "a storage beyond the file": (tensor(10**12, (1,), (1,)), "damaged"),
    "sparse tensors": (call("torch._utils._rebuild_sparse_tensor", b"N"), "sparse"),
    "types of types": (
        call("torch._tensor._rebuild_from_type_v2", b"ctorch._tensor\n_rebuild_from_type_v2\nN)N"),
        "nests tensor types",
    ),
    "a function within one": (
        call("torch._tensor._rebuild_from_type_v2", b"cbuiltins\nbytearray\nN", number(2**40) + b"\x85N"),
        "declares its length",
    ),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("what", HOSTILE)
def test_a_pickle_that_takes_too_much_is_refused(tmp_path, monkeypatch, what, zipped):
    monkeypatch.setattr(bounds, "_MOST_STEPS", 200_000)
    content, words = HOSTILE[what]
    if not zipped:  # its storages may be views
        content = content.replace(b"tQ", b"NtQ")
    path = write(tmp_path / "model.pth", content, zipped=zipped)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith("model.pth ")
    with pytest.raises(CheckpointError, match=words):
        check_file(path)


def test_old_files_are_not_read_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_PICKLE", 1000)
    path = write(tmp_path / "model.pth", text("a" * 2000), zipped=False)
    with pytest.raises(CheckpointError, match="its list of tensors alone has"):
        read_checkpoint(path)


def test_memory_of_old_files_is_filled_from_the_file(tmp_path):
    """A storage that the file does not list would hold what was in memory before."""
    content = tensor(4, (4,), (1,)).replace(b"tQ", b"NtQ")
    path = write(tmp_path / "model.pth", b"}" + text("w") + content + b"s", zipped=False)
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_checkpoint(path)


def test_a_tar_archive_is_not_looked_into(tmp_path, monkeypatch):
    path = write(tmp_path / "model.pth", b"}", zipped=False)
    monkeypatch.setattr("tarfile.TarInfo.frombuf", lambda *_: None)
    with pytest.raises(CheckpointError, match="damaged or incomplete"):
        read_checkpoint(path)


def test_an_archive_with_a_long_list_of_records_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(2)}, path)
    monkeypatch.setattr(archive, "_LARGEST_DIRECTORY", 100)
    with pytest.raises(CheckpointError, match="a list of records"):
        read_checkpoint(path)


@pytest.mark.parametrize("form", ["safetensors", "zip"])
def test_a_file_of_too_many_tensors_is_refused(tmp_path, monkeypatch, form):
    path = tmp_path / "model"
    tensors = {str(index): torch.zeros(0) for index in range(11)}
    if form == "zip":
        torch.save(tensors, path)
    else:
        path.write_bytes(safetensors_bytes(tensors))
    assert len(read_checkpoint(path)[0]) == 11
    for module in (safetensors_file, state_dict):
        monkeypatch.setattr(module, "MOST_TENSORS", 10)
    with pytest.raises(CheckpointError, match="model has 11 tensors, more than any"):
        read_checkpoint(path)


def safetensors_bytes(tensors):
    from safetensors.torch import save

    return save(tensors)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_checkpoints_of_training_load(tmp_path, zipped):
    weights = torch.nn.ModuleList(torch.nn.Linear(3, 2) for _ in range(150)).state_dict()
    moments = {
        index: {"step": torch.tensor(1.0), "exp_avg": torch.zeros_like(value)}
        for index, value in enumerate(weights.values())
    }
    group = {"params": list(moments), "betas": (0.9, 0.99), "foreach": None}
    shared = torch.arange(6.0)
    content = {
        "state_dict": {**weights, "view": shared[2:].view(2, 2).t(), "whole": shared},
        "optimizer": {"state": moments, "param_groups": [group]},
        "others": [b"\xffbytes", bytearray(b"ab"), {1, "b"}, Counter("aab"), OrderedDict(a=1), 2j],
        "types": [torch.float16, torch.device("cpu"), torch.Size([2]), (1, (2.5, None)), 2**70],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "random": torch.get_rng_state(),
    }
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    loaded = read_pickle(path, zipped=zipped)
    assert loaded["others"] == content["others"]
    assert loaded["types"] == content["types"]
    found, _ = read_checkpoint(path)
    assert found.keys() == content["state_dict"].keys()
    assert all(torch.equal(found[name], value) for name, value in content["state_dict"].items())


def test_what_the_host_permits_is_left_to_pytorch(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"w": torch.ones(1)}, "callback": pytest.UsageError("x")}, path)
    with pytest.raises(CheckpointError, match="UsageError"):
        read_checkpoint(path)
    with torch.serialization.safe_globals([pytest.UsageError]):
        assert read_checkpoint(path)[0].keys() == {"w"}


def test_steps_are_those_of_pytorch():
    """The value and its end are those of `pickle`, for a pickle with every kind of instruction."""
    value = ["a", b"b".decode(), 1, 300, 70_000, -1, 2**40, 1.5, None, True, False, "long" * 100]
    data = pickle.dumps(value, 2)
    assert bounds.Bounds(0, zipped=True).follow(b"junk" + data + b"more", 4) == (
        value,
        4 + len(data),
    )
    assert io.BytesIO(data).read(2) == START


def test_many_views_of_one_storage_are_refused(tmp_path):
    values = torch.zeros(1000)
    path = tmp_path / "model.pth"
    torch.save({str(number): values for number in range(4)}, path)
    assert len(read_checkpoint(path)[0]) == 4  # tied parameters
    torch.save({str(number): values for number in range(100)}, path)
    with pytest.raises(CheckpointError, match="share 4,000 bytes, but would take 400,000"):
        read_checkpoint(path)
