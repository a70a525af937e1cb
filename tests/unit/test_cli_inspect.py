"""`varestorer inspect`: the report as text and as JSON."""

import json

import pytest
import torch
from small import TRANSFORMER

from varestorer_core.checkpoint import load_transformer, read_checkpoint, save_safetensors
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.cli.main import main
from varestorer_core.config import TokenizerConfig
from varestorer_core.errors import CheckpointError


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
    assert "NaN or infinite values (head.bias)" in out


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


def test_what_a_terminal_could_act_on_is_escaped(tmp_path, capsys, make_transformer):
    path = tmp_path / "a.safetensors"
    model = make_transformer()
    note = "ok\x1b[2A\x1b[2K\x1b]0;pwned\x07\nproblems  none found"
    save_safetensors(model.state_dict(), path, kind="transformer", config=model.config, note=note)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "ok\\x1b[2A" in out
    assert len([line for line in out.splitlines() if line.startswith("problems")]) == 1


def test_a_damaged_record_of_a_zip_is_found(tmp_path, capsys, make_transformer):
    path = tmp_path / "a.pth"
    state = make_transformer(pixel_class="0.25M").state_dict()
    torch.save(state, path)
    assert main(["inspect", str(path)]) == 0
    raw = bytearray(path.read_bytes())
    place = raw.find(state["word_embed.weight"].numpy().tobytes())
    assert place > 0
    raw[place] ^= 1  # the last bit of a value, which stays finite
    path.write_bytes(raw)
    assert main(["inspect", str(path)]) == 1
    assert "does not match its checksum" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensor: tensor.long(), "of the wrong type"),
        (lambda tensor: tensor > 0, "is bool, expected floating point"),
        (lambda tensor: tensor.double() * 1e300, "infinite values in float32"),
    ],
)
def test_what_loading_refuses_is_a_problem(tmp_path, transformer, capsys, change, words):
    path = tmp_path / "x.pth"
    name = next(name for name, tensor in transformer.items() if tensor.ndim == 2)
    torch.save({**transformer, name: change(transformer[name])}, path)
    assert main(["inspect", str(path)]) == 1
    assert words in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=r"has 1 parameter|does not fit"):
        load_transformer(*read_checkpoint(path), name="x.pth")


@pytest.mark.parametrize("change", [torch.Tensor.int, torch.Tensor.bool])
def test_adapters_of_whole_numbers_are_a_problem(tmp_path, transformer, capsys, change):
    factors = {name: change(value) for name, value in transformer.items() if ".lora_" in name}
    path = tmp_path / "adapter.pth"
    torch.save(factors, path)
    assert main(["inspect", str(path)]) == 1
    assert "expected floating point" in capsys.readouterr().out
