"""`varestorer restore` with small random networks: valid and invalid model files."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core import config
from varestorer_core.checkpoint import save_safetensors
from varestorer_core.cli.main import main
from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.pictures import read_picture, to_uint8


def random_transformer(path, codebook_dim=4):
    shape = TransformerConfig(
        embed_dim=16,
        depth=1,
        num_heads=2,
        codebook_dim=codebook_dim,
        text_channels=128,
        ffn_dim=32,
        text_rows=8,
        pixel_class="0.06M",
    )
    model = VARTransformer(shape)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_safetensors(model.state_dict(), path, kind="transformer", config=shape)
    return str(path)


def random_tokenizer(path):
    shape = TokenizerConfig(4, 8, (1, 1, 1, 1), num_res_blocks=1, norm_groups=4)
    model = VisualTokenizer(shape)
    save_safetensors(model.state_dict(), path, kind="tokenizer", config=shape)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    return {
        "--model": random_transformer(folder / "transformer.safetensors"),
        "--vae": random_tokenizer(folder / "tokenizer.safetensors"),
    }


@pytest.fixture
def cleaner(tmp_path):
    """Write a file with only the names by which a SwinIR is recognised."""
    names = ("layers.0.residual_group.blocks.0.attn.qkv.weight", "conv_after_body.weight")
    torch.save({name: torch.zeros(6, 2) for name in names}, tmp_path / "swinir.ckpt")
    return str(tmp_path / "swinir.ckpt")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(photo, out, files, *arguments):
    named = [str(part) for pair in files.items() for part in pair]
    return main(
        ["restore", str(photo), "-o", str(out), "--device", "cpu", *named, *map(str, arguments)]
    )


def pixels(path):
    return to_uint8(read_picture(path).rgb)


def test_a_picture_goes_all_the_way(tmp_path, photo, files, capsys):
    assert run(photo, tmp_path / "a.png", files, "--upscale", "2.5", "--tile-batch", "1") == 0
    assert run(photo, tmp_path / "b.png", files, "--upscale", "2.5", "--tile-batch", "2") == 0
    first = pixels(tmp_path / "a.png")
    assert first.shape == (125, 175, 3)
    assert np.array_equal(first, pixels(tmp_path / "b.png"))
    assert "bundled" not in capsys.readouterr().err


def test_seed_and_detail_decide_the_noise(tmp_path, photo, files):
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        settings = ("--detail", "1", "--seed", seed, "--color-match", "none", "--upscale", "1")
        assert run(photo, tmp_path / name, files, *settings) == 0
    assert np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png"))
    assert not np.array_equal(pixels(tmp_path / "a.png"), pixels(tmp_path / "c.png"))


@pytest.mark.parametrize("official", [False, True])
def test_detail_is_what_the_model_recommends(tmp_path, photo, files, monkeypatch, official):
    if official:  # a model is official by its width
        small = replace(config.VARESTORER_2B, embed_dim=16, num_heads=2)
        monkeypatch.setattr(config, "VARESTORER_2B", small)
    usual = ("--upscale", "1", "--color-match", "none")
    assert run(photo, tmp_path / "automatic.png", files, *usual) == 0
    for detail in (0, 1):
        assert run(photo, tmp_path / f"{detail}.png", files, *usual, "--detail", detail) == 0
        same = np.array_equal(
            pixels(tmp_path / "automatic.png"), pixels(tmp_path / f"{detail}.png")
        )
        assert same == (detail == official)


def test_the_other_pictures_of_a_run_do_not_matter(tmp_path, photo, files):
    Image.open(photo).rotate(90).save(tmp_path / "other.png")
    settings = ("--detail", "1", "--upscale", "1")
    assert run(photo, tmp_path / "alone.png", files, *settings) == 0
    inputs = [str(tmp_path / "other.png"), str(photo), "-o", str(tmp_path / "out")]
    named = [part for pair in files.items() for part in pair]
    assert main(["restore", *inputs, *named, *settings, "--device", "cpu"]) == 0
    assert np.array_equal(pixels(tmp_path / "alone.png"), pixels(tmp_path / "out" / "photo.png"))


def test_prompt_and_cleaner_are_used(tmp_path, photo, files, cleaner, monkeypatch):
    class Encoder:
        def encode(self, prompt):
            assert prompt == "a dog"
            return torch.full((1, 3, 128), 5.0), torch.ones(1, 3, dtype=torch.bool)

    asked = {}

    def load_text_encoder(folder, **settings):
        asked.update(settings, folder=folder)
        return Encoder()

    monkeypatch.setattr("varestorer_core.text_encoder.load_text_encoder", load_text_encoder)
    monkeypatch.setattr("varestorer_core.text_encoder.check_width", lambda *_: None)
    monkeypatch.setattr(
        "varestorer_core.loading.load_cleaner", lambda *_args, **_options: torch.neg
    )
    settings = ("--upscale", "1", "--color-match", "none", "--detail", "1")
    prompted = ("--text-encoder", tmp_path, "--prompt", "a dog")
    assert run(photo, tmp_path / "plain.png", files, *settings) == 0
    assert run(photo, tmp_path / "prompt.png", files, *settings, *prompted) == 0
    cleaned = {**files, "--cleaner": cleaner}
    assert run(photo, tmp_path / "cleaner.png", cleaned, *settings) == 0
    assert asked["channels"] == 128
    assert asked["folder"] == tmp_path
    plain = pixels(tmp_path / "plain.png")
    assert not np.array_equal(plain, pixels(tmp_path / "prompt.png"))
    assert not np.array_equal(plain, pixels(tmp_path / "cleaner.png"))


def fails(photo, tmp_path, files, capsys, *arguments):
    """Run the command and return the one-line error and the exit code."""
    code = run(photo, tmp_path / "out", files, *arguments)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []
    return error, code


def test_files_of_the_wrong_kind(tmp_path, photo, files, capsys):
    swapped = {"--model": files["--vae"], "--vae": files["--model"]}
    error, code = fails(photo, tmp_path, swapped, capsys)
    assert code == 1
    assert "tokenizer" in error
    assert "varestorer.pth" in error
    error, code = fails(photo, tmp_path, {**files, "--vae": files["--model"]}, capsys)
    assert code == 1
    assert "infinity_vae_d32reg.pth" in error
    error, code = fails(photo, tmp_path, {**files, "--cleaner": files["--vae"]}, capsys)
    assert code == 1
    assert "is a visual tokenizer (VAE), expected a cleaner (SwinIR)" in error


@pytest.mark.parametrize("option", ["--model", "--vae"])
def test_truncated_files(tmp_path, photo, files, capsys, option):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(Path(files[option]).read_bytes()[:-100])
    error, code = fails(photo, tmp_path, {**files, option: str(cut)}, capsys)
    assert code == 1
    assert "cut.safetensors" in error


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("option", ["--model", "--vae", "--cleaner"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_with_code_is_refused_and_does_not_run(
    tmp_path, photo, files, capsys, option, wrapped
):
    victim, path = tmp_path / "victim", tmp_path / "hostile.pth"
    content = {"encoder.conv_in.weight": torch.zeros(2), "x": Hostile(victim)}
    if wrapped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    error, code = fails(photo, tmp_path, {**files, option: str(path)}, capsys)
    assert code == 1
    assert "hostile.pth" in error
    assert not victim.exists()


def test_model_and_vae_of_different_families(tmp_path, photo, files, capsys):
    other = random_transformer(tmp_path / "other.safetensors", codebook_dim=6)
    error, code = fails(photo, tmp_path, {**files, "--model": other}, capsys)
    assert code == 2
    assert "6 bits per token" in error


def test_prompt_without_transformers(tmp_path, photo, files, capsys, monkeypatch):
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    settings = ("--text-encoder", folder, "--prompt", "a dog")
    error, code = fails(photo, tmp_path, files, capsys, *settings)
    assert code == 1
    assert "pip install transformers sentencepiece" in error


def test_cleaner_without_spandrel(tmp_path, photo, files, cleaner, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    error, code = fails(photo, tmp_path, {**files, "--cleaner": cleaner}, capsys)
    assert code == 1
    assert "pip install spandrel" in error
