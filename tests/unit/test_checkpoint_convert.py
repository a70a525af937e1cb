"""Converting and saving checkpoints: round trips, dtypes, metadata, and what `examine` reports."""

import hashlib
import json

import pytest
import torch
from small import TOKENIZER, TRANSFORMER, random_state

from varestorer_core.assets import adapter_file, asset_path
from varestorer_core.checkpoint import (
    convert,
    examine,
    identify,
    load_tokenizer,
    load_transformer,
    read_checkpoint,
    save_safetensors,
)
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.checkpoint.keys import TOKENIZER_TO_OFFICIAL, apply_renames, chunk_blocks
from varestorer_core.checkpoint.save import BASE_SHA256, METRICS, TRAINING
from varestorer_core.config import TokenizerConfig, to_dict
from varestorer_core.errors import CheckpointError, VARestorerError
from varestorer_core.lora.factors import join_adapter, split_adapter
from varestorer_core.lora.recommended import RECOMMENDED


@pytest.fixture
def transformer_file(tmp_path):
    state = {chunk_blocks(name, 1): t for name, t in random_state(TRANSFORMER).items()}
    state["block_chunks.0.module.0.sa.zero_k_bias"] = torch.zeros(32)
    torch.save(state, tmp_path / "official.pth")
    return tmp_path / "official.pth"


@pytest.fixture
def tokenizer_file(tmp_path):
    state = {
        apply_renames(name, TOKENIZER_TO_OFFICIAL): tensor
        for name, tensor in random_state(TOKENIZER).items()
    }
    state["quantizer.lfq.mask"] = torch.tensor([8, 4, 2, 1])
    torch.save({"vae": state, "step": 3}, tmp_path / "vae.pth")
    return tmp_path / "vae.pth"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_transformer_round_trip(tmp_path, transformer_file):
    out = tmp_path / "ours.safetensors"
    info = convert(transformer_file, out, dtype="keep")
    assert (info.kind, info.layout, info.config) == ("transformer", "flat+lora", TRANSFORMER)
    tensors, metadata = read_checkpoint(out)
    assert_same(tensors, random_state(TRANSFORMER))
    assert metadata["varestorer.format"] == "1"
    assert metadata["varestorer.kind"] == "transformer"
    assert json.loads(metadata["varestorer.config"]) == to_dict(TRANSFORMER)
    digest = hashlib.sha256(transformer_file.read_bytes()).hexdigest()
    assert metadata["varestorer.source_sha256"] == digest
    assert "official.pth" in metadata["varestorer.note"]
    assert str(tmp_path) not in metadata["varestorer.note"]
    assert_same(
        load_transformer(tensors, metadata).state_dict(),
        load_transformer(read_checkpoint(transformer_file)[0]).state_dict(),
    )


def test_what_is_computed_in_float32_stays(tmp_path, transformer_file):
    out = tmp_path / "ours.safetensors"
    convert(transformer_file, out)
    tensors, _ = read_checkpoint(out)
    for name, like in expected_parameters(TRANSFORMER, torch.bfloat16).items():
        assert tensors[name].dtype == like.dtype, name
    assert tensors["blocks.0.sa.proj.lora_up.weight"].dtype == torch.bfloat16
    # The file contains the same values as loading in bfloat16: converting first changes nothing.
    direct, _ = read_checkpoint(transformer_file)
    arguments = {"dtype": torch.bfloat16, "merge": False}
    assert_same(
        load_transformer(tensors, **arguments).state_dict(),
        load_transformer(direct, **arguments).state_dict(),
    )


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(None, "float32"), ("keep", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")],
)
def test_tokenizer_types(tmp_path, tokenizer_file, dtype, expected):
    out = tmp_path / "ours.safetensors"
    info = convert(tokenizer_file, out, dtype=dtype)
    assert (info.kind, info.layout, info.config) == ("tokenizer", "flat", TOKENIZER)
    assert info.dtypes.keys() == {expected}
    tensors, metadata = read_checkpoint(out)
    load_tokenizer(tensors, metadata)
    if expected == "float32":
        assert_same(tensors, random_state(TOKENIZER))


def test_fp32_widens_everything(tmp_path, transformer_file):
    convert(transformer_file, tmp_path / "half.safetensors", dtype="fp16")
    info = convert(tmp_path / "half.safetensors", tmp_path / "full.safetensors", dtype="fp32")
    assert info.dtypes.keys() == {"float32"}


def test_adapter_round_trip(tmp_path, transformer_file):
    out = tmp_path / "adapter.safetensors"
    info = convert(transformer_file, out, dtype="keep", adapter_only=True)
    assert (info.kind, info.config, info.problems) == ("adapter", TRANSFORMER, ())
    assert info.details["rank"] == 3
    adapter, metadata = read_checkpoint(out)
    assert metadata["varestorer.v_bias"] == "times 1 - strength"
    base, expected = split_adapter(random_state(TRANSFORMER))
    assert_same(adapter, expected)
    assert_same(join_adapter(base, adapter), random_state(TRANSFORMER))


def test_a_converted_adapter_keeps_its_base_record_and_recommendations(tmp_path):
    adapter = asset_path(adapter_file("low_light"))
    convert(adapter, tmp_path / "half.safetensors")
    before, after = read_checkpoint(adapter)[1], read_checkpoint(tmp_path / "half.safetensors")[1]
    for key in (BASE_SHA256, METRICS, TRAINING, RECOMMENDED):
        assert after[key] == before[key]
    assert after["varestorer.note"].endswith(before["varestorer.note"])
    assert after["varestorer.source_sha256"] == hashlib.sha256(adapter.read_bytes()).hexdigest()


def test_adapter_of_what_has_none(tmp_path, tokenizer_file):
    with pytest.raises(CheckpointError, match="without adapters"):
        convert(tokenizer_file, tmp_path / "out.safetensors", adapter_only=True)


def test_text_encoder_folder(tmp_path):
    names = ["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"]
    folder = tmp_path / "flan"
    folder.mkdir()
    state = {name: torch.randn(4, 4) for name in [*names, "decoder.x.weight", "lm_head.weight"]}
    save_safetensors(state, folder / "model.safetensors", kind="text_encoder", config=None)
    out = tmp_path / "flan.safetensors"
    info = convert(folder, out, dtype="fp16")
    assert (info.kind, info.layout, info.dtype) == ("text_encoder", "encoder", "float16")
    assert set(read_checkpoint(out)[0]) == set(names)


def test_source_is_never_overwritten(tmp_path, transformer_file):
    ours = tmp_path / "ours.safetensors"
    convert(transformer_file, ours)
    before = ours.read_bytes()
    link = tmp_path / "link.safetensors"
    link.hardlink_to(ours)
    for destination in (ours, tmp_path / "." / "ours.safetensors", link):
        with pytest.raises(VARestorerError, match="is the source itself"):
            convert(ours, destination)
    assert ours.read_bytes() == before


@pytest.mark.parametrize("name", ["out.pth", "out"])
def test_wrong_suffix(tmp_path, transformer_file, name):
    with pytest.raises(VARestorerError, match=r"must end in \.safetensors"):
        convert(transformer_file, tmp_path / name)


def test_unusable_sources(tmp_path, transformer_file):
    out = tmp_path / "out.safetensors"
    state, _ = read_checkpoint(transformer_file)
    broken = tmp_path / "broken.pth"
    for change, words in (
        ({"head.weight": None}, "does not fit its architecture"),
        ({"head.bias": torch.full((8,), float("inf"))}, "infinite"),
        ({"word_embed.weight": None}, "cannot be converted"),
    ):
        torch.save({k: v for k, v in (state | change).items() if v is not None}, broken)
        with pytest.raises(CheckpointError, match=words):
            convert(broken, out)
    torch.save({"foo": torch.ones(1)}, broken)
    with pytest.raises(CheckpointError, match="cannot use"):
        convert(broken, out)
    assert not out.exists()


def test_save_and_identify(tmp_path):
    path = tmp_path / "tiny.safetensors"
    config = TokenizerConfig(4, 16, (1, 2), num_res_blocks=1, norm_groups=2)
    save_safetensors(random_state(config), path, kind="tokenizer", config=config, note="for tests")
    tensors, metadata = read_checkpoint(path)
    assert identify(tensors, metadata).config == config
    assert metadata["varestorer.note"] == "for tests"
    assert load_tokenizer(tensors, metadata).config == config


def test_examine_says_which_part_a_transformer_plays(tmp_path):
    state = random_state(TRANSFORMER)
    base, _ = split_adapter(state)
    merged = load_transformer(state).state_dict()
    for tensors, words in (
        (state, "separate adapters"),
        (base, "base or teacher"),
        (merged, "merged adapters"),
    ):
        torch.save(tensors, tmp_path / "x.pth")
        report = examine(tmp_path / "x.pth")
        assert words in report.info.details["role"]
        assert report.info.problems == ()


def test_examine_collects_problems(tmp_path):
    state = random_state(TRANSFORMER)
    state["head.bias"][2] = float("nan")
    del state["head.weight"]
    torch.save(state, tmp_path / "x.pth")
    report = examine(tmp_path / "x.pth")
    assert any("missing (head.weight)" in problem for problem in report.info.problems)
    assert any("NaN or infinite values (head.bias)" in problem for problem in report.info.problems)
    assert report.size == (tmp_path / "x.pth").stat().st_size
