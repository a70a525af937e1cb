"""Checksums: every safetensors file of ours contains one, and differences from it are reported."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from varestorer_core import load_restorer
from varestorer_core.checkpoint import convert, read_checkpoint, save_safetensors, verify
from varestorer_core.checkpoint.safetensors_file import TENSORS_SHA256
from varestorer_core.cli.main import main
from varestorer_core.errors import CheckpointError, SettingError


@pytest.fixture
def model(make_transformer):
    return make_transformer(pixel_class="0.25M")


@pytest.fixture
def path(tmp_path, model):
    path = tmp_path / "a.safetensors"
    save_safetensors(model.state_dict(), path, kind="transformer", config=model.config)
    return path


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def with_another_bit(path, value):
    """Change the last bit of a value in the file, which stays finite."""
    raw = bytearray(path.read_bytes())
    place = raw.find(value.numpy().tobytes())
    assert place > 0
    raw[place] ^= 1
    path.write_bytes(raw)


def test_the_hash_is_made_of_names_types_shapes_and_values(tmp_path):
    path = tmp_path / "a.safetensors"
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(1, dtype=torch.float16)}
    save_safetensors(tensors, path, kind="adapter", config=None)
    lines = [
        json.dumps([name, kind, list(value.shape), hashlib.sha256(value.numpy()).hexdigest()])
        for name, kind, value in (("a", "F16", tensors["a"]), ("b", "F32", tensors["b"]))
    ]
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert metadata_of(path)[TENSORS_SHA256] == expected
    assert torch.equal(load_file(path)["b"], tensors["b"])


def test_other_programs_may_reorder_tensors_and_add_metadata(path):
    save_file(dict(reversed(load_file(path).items())), path, {**metadata_of(path), "more": "x"})
    assert verify(path)


@pytest.mark.parametrize("change", ["value", "name", "shape", "missing"])
def test_a_change_is_found(path, model, change):
    metadata, tensors = metadata_of(path), load_file(path)
    value = tensors.pop("word_embed.weight")
    if change == "value":
        with_another_bit(path, model.word_embed.weight.detach())
    else:
        if change == "name":
            tensors["word_embed.other"] = value
        elif change == "shape":
            tensors["word_embed.weight"] = value.reshape(-1)
        save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=r"^a\.safetensors: The tensors do not match the SHA"):
        verify(path)


def test_what_has_no_checksum(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "zip.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert verify(tmp_path / "zip.pth")
    assert not verify(tmp_path / "old.pth")
    assert not verify(tmp_path / "a.safetensors")


def test_all_parts_of_a_text_encoder_are_compared(tmp_path):
    key = "encoder.block.{}.layer.0.SelfAttention.q.weight"
    for part in range(2):
        file = tmp_path / f"{part}.safetensors"
        save_safetensors({key.format(part): torch.rand(4, 4)}, file, kind="text", config=None)
    names = {key.format(part): f"{part}.safetensors" for part in range(2)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    assert verify(tmp_path)
    assert verify(index)
    with_another_bit(
        tmp_path / "1.safetensors", load_file(tmp_path / "1.safetensors")[key.format(1)]
    )
    with pytest.raises(CheckpointError, match=r"^1\.safetensors: "):
        verify(tmp_path)


def test_convert_writes_one(tmp_path, path):
    target = tmp_path / "b.safetensors"
    convert(path, target, dtype="fp32")
    assert verify(target)
    assert metadata_of(target)[TENSORS_SHA256] == metadata_of(path)[TENSORS_SHA256]


def test_a_damaged_checksum_is_a_sentence(path):
    save_file(load_file(path), path, {**metadata_of(path), TENSORS_SHA256: "\x1b[2J"})
    with pytest.raises(CheckpointError) as caught:
        verify(path)
    assert str(caught.value).isprintable()


def test_inspect_compares_on_request(path, model, capsys):
    assert main(["inspect", str(path), "--verify"]) == 0
    assert "checksums" in capsys.readouterr().out
    with_another_bit(path, model.word_embed.weight.detach())
    assert main(["inspect", str(path)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(path), "--verify"]) == 1
    assert "The tensors do not match the SHA-256 in the metadata" in capsys.readouterr().out


def test_inspect_says_where_there_is_none(tmp_path, path, capsys):
    tensors, _ = read_checkpoint(path)
    save_file(tensors, tmp_path / "old.safetensors")
    assert main(["inspect", str(tmp_path / "old.safetensors"), "--verify"]) == 0
    assert "none in old.safetensors: other programs write none" in capsys.readouterr().out


def test_loading_on_request(path, model, monkeypatch, caplog, capsys):
    load_restorer(verify=True)
    with_another_bit(path, model.word_embed.weight.detach())
    with pytest.raises(CheckpointError, match="do not match the SHA-256"):
        load_restorer(path, verify=True)
    arguments = ["restore", "missing.png", "-o", "out.png", "--model", str(path)]
    monkeypatch.chdir(path.parent)
    (path.parent / "missing.png").write_bytes(b"")
    assert main([*arguments, "--verify"]) == 1
    assert "do not match the SHA-256" in capsys.readouterr().err
    old = path.with_name("old.pth")
    torch.save(model.state_dict(), old, _use_new_zipfile_serialization=False)
    with pytest.raises(SettingError, match="bits per token"):
        load_restorer(old, verify=True)
    assert f"{old} has no checksum, so it was not verified" in caplog.text
