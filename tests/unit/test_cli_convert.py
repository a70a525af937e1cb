"""`varestorer convert`: arguments, default names and what is printed."""

import pytest
import torch
from small import TRANSFORMER

from varestorer_core.checkpoint import identify, read_checkpoint
from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.checkpoint.keys import chunk_blocks
from varestorer_core.cli.main import main


@pytest.fixture
def source(tmp_path):
    state = {
        chunk_blocks(name, 1): torch.full(like.shape, 0.1)
        for name, like in expected_parameters(TRANSFORMER).items()
    }
    torch.save(state, tmp_path / "official.pth")
    return tmp_path / "official.pth"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)],
)
def test_file(tmp_path, source, capsys, dtype, expected):
    out = tmp_path / "ours.safetensors"
    assert main(["convert", str(source), "-o", str(out), "--dtype", dtype]) == 0
    tensors, metadata = read_checkpoint(out)
    assert identify(tensors, metadata).config == TRANSFORMER
    assert tensors["blocks.1.ffn.fc1.weight"].dtype == expected
    printed = capsys.readouterr().out
    assert str(out) in printed
    assert "a VARestorer transformer" in printed


def test_adapter_into_a_folder(tmp_path, source):
    assert main(["convert", str(source), "-o", str(tmp_path), "--adapter-only"]) == 0
    tensors, metadata = read_checkpoint(tmp_path / "official_adapter.safetensors")
    assert identify(tensors, metadata).kind == "adapter"


def test_into_a_folder(tmp_path, source):
    assert main(["convert", str(source), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "official.safetensors").is_file()


def test_errors_are_one_sentence(tmp_path, source, capsys):
    assert main(["convert", str(tmp_path / "no.pth"), "-o", str(tmp_path)]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["convert", str(source), "-o", str(tmp_path / "x.pth")]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err
    missing = tmp_path / "none" / "x.safetensors"
    assert main(["convert", str(source), "-o", str(missing)]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_output_is_required(source):
    with pytest.raises(SystemExit) as end:
        main(["convert", str(source)])
    assert end.value.code == 2
