"""Misleading files: signatures of other formats, pickles that contain themselves, tensors without values."""

import json
import os
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from varestorer_core.checkpoint import identify, load_transformer, read_checkpoint, unwrap
from varestorer_core.checkpoint.files import damage_named, file_format
from varestorer_core.config import tokenizer_config, transformer_config
from varestorer_core.errors import CheckpointError


def with_header_length(path, tensors, metadata, wanted):
    """Write a safetensors file whose header is padded with spaces until its length satisfies a condition."""
    save_file(tensors, path, metadata)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, body = raw[8 : 8 + length], raw[8 + length :]
    while not wanted(len(header).to_bytes(8, "little")):
        header += b" " * 8
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)


@pytest.mark.parametrize(
    "wanted", [lambda raw: raw[0] == 0x80, lambda raw: raw[:2] == b"PK"], ids=["0x80", "PK"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".ckpt"])
def test_a_header_length_that_looks_like_another_format(tmp_path, wanted, suffix):
    path = tmp_path / f"model{suffix}"
    tensors = {"weight": torch.arange(4.0)}
    with_header_length(path, tensors, {"varestorer.note": "kept"}, wanted)
    assert file_format(path) == "safetensors"
    found, metadata = read_checkpoint(path)
    assert torch.equal(found["weight"], tensors["weight"])
    assert metadata["varestorer.note"] == "kept"


@pytest.mark.parametrize(("zipped", "form"), [(True, "zip"), (False, "pickle")])
def test_a_pickle_is_one_whatever_its_ending(tmp_path, zipped, form):
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    assert file_format(path) == form
    assert read_checkpoint(path)[0].keys() == {"a"}


def loop_of(length):
    """Return a dictionary that contains itself after a number of levels."""
    first = OrderedDict()
    last = first
    for _ in range(length - 1):
        last["x"] = OrderedDict()
        last = last["x"]
    last["x"] = first
    return first


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("loaded", [loop_of(1), loop_of(3)], ids=["itself", "in three steps"])
def test_a_pickle_that_contains_itself_is_refused_at_once(tmp_path, loaded, zipped):
    path = tmp_path / "model.pth"
    torch.save(loaded, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="or itself"):
        read_checkpoint(path)


@pytest.mark.usefixtures("deadline")
def test_dictionaries_in_dictionaries_are_bounded():
    nested = {"w": torch.ones(1)}
    for _ in range(5):
        nested = {"x": nested}
    assert unwrap(nested).keys() == {"w"}
    for _ in range(5000):
        nested = {"x": nested}
    with pytest.raises(CheckpointError, match="within dictionaries"):
        unwrap(nested)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(2, device="meta"), "without values"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.nested.nested_tensor([torch.ones(2)]), "nested"),
        (torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8), "qint8"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (torch.ones(2, dtype=torch.uint8).view(torch.bits8), "bits8"),
        (torch.ones(2, dtype=torch.uint8).view(torch.uint16), "uint16"),
        (torch.ones(1).expand(1000, 1000), "4 bytes behind it"),
        (torch.ones(1).as_strided((2**31, 2**31), (0, 0)), "4 bytes behind it"),
    ],
    ids=[
        "meta",
        "sparse",
        "nested",
        "quantised",
        "complex",
        "bits",
        "unsigned",
        "expanded",
        "huge",
    ],
)
def test_only_plain_tensors_are_parameters(tensor, words):
    with pytest.raises(CheckpointError, match=words):
        unwrap({"w": torch.ones(2), "x": tensor})


def test_tensors_that_share_memory_pass():
    whole = torch.arange(6.0)
    assert unwrap({"a": whole[:3], "b": whole[3:], "c": whole.view(2, 3).t()}).keys() == set("abc")


def test_a_compressed_or_oversized_archive_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(CheckpointError, match="compressed records"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\0" * 64_000_001)
    with pytest.raises(CheckpointError, match="list of tensors alone has 64 MB"):
        read_checkpoint(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.usefixtures("deadline")
def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", "/dev/zero"):
        with pytest.raises(CheckpointError, match="a pipe or a device"):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, Infinity]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}',
        b'{"__metadata__": 5, "a": {}}',
        b'{"__metadata__": [1], "a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b"{" + b"9" * 10_000,
    ],
)
def test_headers_of_every_kind_of_damage(tmp_path, header):
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (transformer_config, {"num_heads": 0}),
        (transformer_config, {"depth": 10**9}),
        (transformer_config, {"embed_dim": "32"}),
        (transformer_config, {"embed_dim": 1e308}),
        (transformer_config, {"text_rows": -1}),
        (transformer_config, {"pixel_class": ["0.25M"]}),
        (tokenizer_config, {"norm_groups": 0}),
        (tokenizer_config, {"channel_multipliers": 5}),
        (tokenizer_config, {"channel_multipliers": ["1", None]}),
        (tokenizer_config, {"channel_multipliers": [1] * 1000}),
    ],
)
def test_absurd_configurations_are_refused(build, changes):
    usual = {
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "codebook_dim": 6,
        "text_channels": 16,
        "ffn_dim": 64,
    }
    values = usual if build is transformer_config else {"codebook_dim": 6}
    build(values)
    with pytest.raises(CheckpointError):
        build({**values, **changes})


@pytest.mark.parametrize(
    "config", ["[]", "{", '{"embed_dim": {}}', "[" * 10_000, '"text"', "9" * 5000]
)
def test_damaged_metadata_are_a_problem_and_no_traceback(bundled, config):
    state = bundled.stages.transformer.state_dict()
    info = identify(state, {"varestorer.config": config})
    assert info.problems
    with pytest.raises(CheckpointError):
        load_transformer(state, {"varestorer.config": config})


def test_parameters_of_an_absurd_number_of_blocks_are_refused(make_transformer):
    state = make_transformer().state_dict()
    state |= {f"blocks.{index}.ada_gss": torch.zeros(1) for index in range(2000)}
    with pytest.raises(CheckpointError, match="depth must be"):
        load_transformer(state)


@pytest.mark.parametrize(
    "error",
    [RecursionError("deep"), AssertionError(), ArithmeticError("x"), SystemError("bad")],
)
def test_the_border_turns_everything_into_one_sentence(error):
    def fail():
        with damage_named("a.pth"):
            raise error

    with pytest.raises(CheckpointError, match=r"^a\.pth is damaged and cannot be read"):
        fail()


def test_the_border_names_memory_and_lets_interruptions_pass():
    def fail(error):
        with damage_named("a.pth"):
            raise error

    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ):
        with pytest.raises(CheckpointError, match="not enough memory"):
            fail(error)
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())


def test_names_from_files_are_shown_escaped():
    with pytest.raises(CheckpointError) as caught:
        load_transformer({"\x1b[2Jevil": torch.ones(1)}, name="a.pth")
    assert "\x1b" not in str(caught.value)
    assert json.dumps(str(caught.value))
