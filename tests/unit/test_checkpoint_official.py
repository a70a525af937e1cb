"""Small files with exactly the structure of the released ones."""

import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from varestorer_core.checkpoint import (
    identify,
    load_tokenizer,
    load_transformer,
    read_checkpoint,
    save_safetensors,
)
from varestorer_core.cli.main import main

_spec = importlib.util.spec_from_file_location(
    "varestorer_released", Path(__file__).parents[1] / "released.py"
)
released = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(released)
released_tokenizer, released_transformer = (
    released.released_tokenizer,
    released.released_transformer,
)


@pytest.fixture
def files(tmp_path, make_tokenizer, make_transformer):
    """Return the two files and the networks in them."""
    tokenizer = make_tokenizer(base_channels=32, norm_groups=32)
    transformer = make_transformer(pixel_class="0.25M")
    torch.save(released_tokenizer(tokenizer), tmp_path / "infinity_vae_d32reg.pth")
    torch.save(released_transformer(transformer), tmp_path / "infinity_2b_reg.pth")
    return tmp_path, tokenizer, transformer


def assert_same_network(found, wanted):
    state = wanted.state_dict()
    assert found.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())


def test_the_tensors_are_rebuilt_as_in_the_release(files):
    raw = (files[0] / "infinity_2b_reg.pth").read_bytes()
    assert b"_rebuild_from_type_v2" in raw


def test_the_files_load(files):
    folder, tokenizer, transformer = files
    vae = read_checkpoint(folder / "infinity_vae_d32reg.pth", kind="tokenizer")
    base = read_checkpoint(folder / "infinity_2b_reg.pth", kind="transformer")
    assert_same_network(load_tokenizer(*vae), tokenizer)
    assert_same_network(load_transformer(*base), transformer)


def test_the_command_says_what_they_are(files, capsys):
    folder, *_ = files
    for name, words in (
        ("infinity_vae_d32reg.pth", "a visual tokenizer"),
        ("infinity_2b_reg.pth", "a VARestorer transformer"),
    ):
        assert main(["inspect", str(folder / name)]) == 0
        assert words in capsys.readouterr().out


def test_the_small_model_has_the_smallest_tiles(make_transformer):
    """infinity_125M_256x256: 16 bits per token, trained on 256 x 256 pixels."""
    small = make_transformer(codebook_dim=16).state_dict()
    assert identify(small).config.pixel_class == "0.06M"
    assert identify(make_transformer(codebook_dim=32).state_dict()).config.pixel_class == "0.25M"


@pytest.mark.parametrize("key", ["gpt_fsdp", "gpt_wo_ddp"])
def test_a_training_checkpoint_of_infinity(tmp_path, make_transformer, key):
    transformer = make_transformer(pixel_class="0.25M")
    state = {
        name.replace("blocks.", "blocks._fsdp_wrapped_module."): tensor
        for name, tensor in transformer.state_dict().items()
    }
    path = tmp_path / "ar-ckpt.pth"
    torch.save(
        {"epoch": 1, "iter": 2, "trainer": {"config": {}, key: state, f"{key}_opt": {}}},
        path,
    )
    assert_same_network(load_transformer(*read_checkpoint(path, kind="transformer")), transformer)


def test_the_command_restores_with_a_training_checkpoint(
    tmp_path, make_transformer, make_tokenizer
):
    """As with the bare weights: `trainer.gpt_fsdp` is found, whatever lies beside it."""
    transformer, tokenizer = make_transformer(pixel_class="0.25M"), make_tokenizer()
    state = transformer.state_dict()
    save_safetensors(
        tokenizer.state_dict(), tmp_path / "vae.safetensors", kind="tokenizer", config=tokenizer.config
    )  # fmt: skip
    save_safetensors(
        state, tmp_path / "bare.safetensors", kind="transformer", config=transformer.config
    )
    trainer = {"config": {}, "gpt_fsdp": state, "gpt_fsdp_opt": {"state": {}}}
    torch.save({"epoch": 1, "trainer": trainer}, tmp_path / "ar-ckpt.pth")
    Image.new("RGB", (20, 12), "orange").save(tmp_path / "a.png")
    results = []
    for model in ("bare.safetensors", "ar-ckpt.pth"):
        assert main(["inspect", str(tmp_path / model)]) == 0
        out = tmp_path / f"{model}.png"
        words = ["restore", tmp_path / "a.png", "-o", out, "--model", tmp_path / model]
        words += ["--vae", tmp_path / "vae.safetensors", "--overlap", 16, "--device", "cpu"]
        assert main([str(word) for word in words]) == 0
        results.append(out.read_bytes())
    assert results[0] == results[1]


def test_all_that_is_there_and_more_is_used(files, capsys, caplog):
    folder, tokenizer, _ = files
    content = released_tokenizer(tokenizer)
    content["vae"]["encoder.extra.weight"] = torch.ones(2)
    path = folder / "more.pth"
    torch.save(content, path)
    assert_same_network(load_tokenizer(*read_checkpoint(path)), tokenizer)
    assert "encoder.extra.weight" in caplog.text
    assert main(["inspect", str(path)]) == 0
    assert "encoder.extra.weight" in capsys.readouterr().out
