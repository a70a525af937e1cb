"""Reading of files: every format, every kind of damage, and pickles that would run code."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from varestorer_core.checkpoint import read_checkpoint, unwrap
from varestorer_core.errors import CheckpointError


class Payload:
    """Creates a file when a careless loader opens the pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture
def tensors():
    return {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("suffix", [".safetensors", ".sft", ".pth"])
def test_safetensors_whatever_the_suffix(tmp_path, tensors, suffix):
    path = tmp_path / f"model{suffix}"
    save_file(tensors, path, {"key": "value"})
    found, metadata = read_checkpoint(path)
    assert_same(found, tensors)
    assert metadata["key"] == "value"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles(tmp_path, tensors, suffix, zipped):
    path = tmp_path / f"model{suffix}"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    found, metadata = read_checkpoint(path)
    assert_same(found, tensors)
    assert metadata == {}


@pytest.mark.parametrize("wrapper", ["state_dict", "params_ema", "params", "infinity", "vae", "x"])
def test_wrapped(tmp_path, tensors, wrapper):
    path = tmp_path / "model.pth"
    extra = {} if wrapper == "x" else {"epoch": 3, "args": {"lr": 0.1}, "acc_str": "[none]"}
    torch.save({wrapper: tensors, **extra}, path)
    assert_same(read_checkpoint(path)[0], tensors)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_are_stripped(tensors, prefix):
    assert_same(unwrap({prefix + name: value for name, value in tensors.items()}), tensors)


def test_a_prefix_of_some_names_stays(tensors):
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert unwrap(mixed).keys() == mixed.keys()


def test_training_checkpoint_holds_both_models(tmp_path):
    path = tmp_path / "ckpt.pth"
    student, tokenizer = {"s": torch.ones(1)}, {"t": torch.zeros(1)}
    torch.save({"infinity": student, "vae": tokenizer, "iter": 5}, path)
    assert read_checkpoint(path)[0].keys() == {"s"}
    assert read_checkpoint(path, kind="transformer")[0].keys() == {"s"}
    assert read_checkpoint(path, kind="tokenizer")[0].keys() == {"t"}


def test_unwrap_consumes_on_request(tensors):
    nested = {"vae": dict(tensors)}
    assert_same(unwrap(nested), tensors)
    assert nested["vae"]
    inner = nested["vae"]
    assert_same(unwrap(nested, consume=True), tensors)
    assert not nested
    assert not inner


@pytest.mark.parametrize("loaded", [[1, 2], torch.ones(2), {"epoch": 3}, {}, {"state_dict": {}}])
def test_no_tensors(loaded):
    with pytest.raises(CheckpointError, match="holds"):
        unwrap(loaded)


def _payload_bytes(form, marker):
    bad = {"weight": torch.ones(2), "bad": Payload(marker)}
    buffer = io.BytesIO()
    if form == "pickle":
        pickle.dump({"bad": Payload(marker)}, buffer, protocol=2)
    else:
        torch.save(bad, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_pickle_with_code_is_refused_and_nothing_runs(tmp_path, form):
    marker, path = tmp_path / "ran", tmp_path / "model.pth"
    path.write_bytes(_payload_bytes(form, marker))
    with pytest.raises(CheckpointError, match=r"model\.pth was refused.*run"):
        read_checkpoint(path)
    assert not marker.exists()


def test_the_payload_would_have_run(tmp_path):
    """Validates the test above."""
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(path)


def test_objects_that_are_no_tensors_are_named(tmp_path):
    import argparse

    path = tmp_path / "model.pth"
    torch.save({"w": torch.ones(1), "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in", "web page"),
        (b"\n  <html>", "web page"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"hello world, this is text", "neither a safetensors file nor"),
        (b"\x80\x02garbage that is no pickle", "damaged or incomplete|refused"),
        (b"PK\x03\x04not really a zip", "truncated"),
    ],
)
def test_strangers(tmp_path, content, message):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert "model.bin" in str(caught.value)


def test_zip_that_is_no_checkpoint(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="zip archive"):
        read_checkpoint(path)


def test_missing_file_and_plain_folder(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="folder without"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [4, 7, 20, -1, -8])
def test_truncated_safetensors(tmp_path, tensors, keep):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(path)


def framed(header):
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((1 << 60).to_bytes(8, "little") + b"{}", "header would be"),
        (b"abcdefgh{}", "header would be"),
        ((4).to_bytes(8, "little") + b"{abc", "header is damaged"),
        ((2).to_bytes(8, "little") + b"[]", "header is damaged"),
        ((7).to_bytes(8, "little") + b'{"a":1}', "header is damaged"),
        (framed(b"[" * 99999), "header is damaged"),
        (framed(b'{"a":{"data_offsets":[0,Infinity]}}'), "header is damaged"),
    ],
)
def test_wrong_safetensors_header(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_inconsistent_safetensors_header(tmp_path):
    header = {"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 4]}}
    raw = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * 4)
    with pytest.raises(CheckpointError, match="damaged safetensors"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_pickle(tmp_path, tensors, zipped):
    path = tmp_path / "model.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match=r"truncated|damaged or incomplete"):
        read_checkpoint(path)


@pytest.fixture
def text_encoder(tmp_path):
    """A sharded T5 folder; returns the folder and the tensors of its encoder."""
    encoder = {
        "shared.weight": torch.randn(5, 4),
        "encoder.block.0.layer.0.SelfAttention.q.weight": torch.randn(4, 4),
    }
    decoder = {
        "encoder.embed_tokens.weight": encoder["shared.weight"].clone(),
        "decoder.block.0.layer.0.SelfAttention.q.weight": torch.randn(4, 4),
        "lm_head.weight": torch.randn(5, 4),
    }
    everything = list({**encoder, **decoder}.items())
    weight_map = {}
    for part, names in (("one", everything[::2]), ("two", everything[1::2])):
        save_file(dict(names), tmp_path / f"{part}.safetensors")
        weight_map |= dict.fromkeys((name for name, _ in names), f"{part}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return tmp_path, encoder


def test_sharded_folder_gives_the_encoder(text_encoder):
    folder, encoder = text_encoder
    assert_same(read_checkpoint(folder)[0], encoder)
    assert_same(read_checkpoint(folder / "model.safetensors.index.json")[0], encoder)


def test_sharded_folder_without_a_part(text_encoder):
    folder, _ = text_encoder
    (folder / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"two\.safetensors is missing"):
        read_checkpoint(folder)


def test_index_that_lists_too_much(text_encoder):
    folder, _ = text_encoder
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["encoder.extra"] = "one.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"encoder\.extra"):
        read_checkpoint(folder)


def test_index_cannot_point_elsewhere(text_encoder, tmp_path_factory):
    folder, _ = text_encoder
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.safetensors"
    save_file({"encoder.secret": torch.ones(1)}, elsewhere)
    content = {"weight_map": {"encoder.secret": str(elsewhere)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="missing next to"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}'])
def test_damaged_index(text_encoder, content):
    folder, _ = text_encoder
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"not the index|is empty|holds no"):
        read_checkpoint(folder)


def test_single_file_folder(tmp_path, text_encoder):
    folder = tmp_path / "single"
    folder.mkdir()
    tensors = {**text_encoder[1], "lm_head.weight": torch.ones(2)}
    save_file(tensors, folder / "model.safetensors")
    assert_same(read_checkpoint(folder)[0], text_encoder[1])
