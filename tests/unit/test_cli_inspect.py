"""`varestorer inspect`: the report for people and for programs."""

import json

import pytest
import torch

from varestorer_core.checkpoint import save_safetensors
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.cli.main import main
from varestorer_core.config import TokenizerConfig, TransformerConfig

TRANSFORMER = TransformerConfig(
    embed_dim=32,
    depth=2,
    num_heads=2,
    codebook_dim=4,
    text_channels=128,
    ffn_dim=48,
    text_rows=6,
    lora_rank=3,
)


@pytest.fixture
def transformer():
    return {n: torch.full(t.shape, 0.1) for n, t in expected_parameters(TRANSFORMER).items()}


def test_text(tmp_path, transformer, capsys):
    path = tmp_path / "x.safetensors"
    save_safetensors(transformer, path, kind="transformer", config=TRANSFORMER, note="a note")
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    total = sum(t.numel() for t in transformer.values())
    lora = sum(t.numel() for n, t in transformer.items() if ".lora_" in n)
    for words in (
        "a VARestorer transformer",
        "flat+lora",
        f"{total:,}, of which {lora:,} in adapters",
        "float32",
        "config.lora_rank",
        "student with separate adapters",
        "a note",
        "none found",
    ):
        assert words in out


def test_json(tmp_path, transformer, capsys):
    path = tmp_path / "x.pth"
    torch.save(transformer, path)
    assert main(["inspect", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "transformer"
    assert report["config"]["lora_rank"] == 3
    assert report["size_bytes"] == path.stat().st_size
    assert report["problems"] == []
    assert report["dtypes"] == {"float32": report["parameters"]}


def test_tokenizer_has_no_adapters_to_tell_of(tmp_path, capsys):
    config = TokenizerConfig(codebook_dim=4, base_channels=32, channel_multipliers=(1, 2))
    path = tmp_path / "x.pth"
    torch.save({n: torch.zeros(t.shape) for n, t in expected_parameters(config).items()}, path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "a visual tokenizer (VAE)" in out
    assert "in adapters" not in out


def test_problems_give_exit_status_1(tmp_path, transformer, capsys):
    path = tmp_path / "x.pth"
    transformer["head.bias"][0] = float("inf")
    del transformer["head.weight"]
    torch.save(transformer, path)
    assert main(["inspect", str(path)]) == 1
    out = capsys.readouterr().out
    assert "missing (head.weight)" in out
    assert "infinite or NaN (head.bias)" in out


def test_stranger(tmp_path, capsys):
    path = tmp_path / "x.pth"
    torch.save({"model.diffusion_model.a": torch.ones(1)}, path)
    assert main(["inspect", str(path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "unknown"
    assert "diffusion model" in report["problems"][0]


def test_unreadable_file_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "x.pth"
    path.write_bytes(b"")
    assert main(["inspect", str(path)]) == 1
    assert "x.pth is empty" in capsys.readouterr().err
