"""`varestorer restore --adapter`: on its base, at every strength, and on another base."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from adapter_spellings import SPELLINGS, kohya, respelled
from PIL import Image
from safetensors.torch import save_file

from varestorer_core.checkpoint import load_transformer, save_safetensors
from varestorer_core.checkpoint.save import sha256
from varestorer_core.cli.main import main
from varestorer_core.cli.manifest import file_mark
from varestorer_core.distill.adapters import adapters_of, student_on_teacher
from varestorer_core.lora.factors import apply_adapter, merge_adapter
from varestorer_core.lora.file import load_adapter
from varestorer_core.lora.recommended import RECOMMENDED, Recommended


@pytest.fixture
def base(make_transformer):
    return make_transformer(codebook_dim=4)


@pytest.fixture
def factors(base):
    adapters = adapters_of(student_on_teacher(base, 2))
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter)
    return {name: value.detach() for name, value in adapters.state_dict().items()}


@pytest.fixture
def files(tmp_path, base, factors, make_tokenizer):
    """Return the options that name a base, its tokenizer and an adapter that knows its base."""
    tokenizer = make_tokenizer(codebook_dim=4)
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("model", "vae", "adapter")}
    save_safetensors(base.state_dict(), paths["model"], kind="transformer", config=base.config)
    save_safetensors(
        tokenizer.state_dict(), paths["vae"], kind="tokenizer", config=tokenizer.config
    )
    save_safetensors(
        factors, paths["adapter"], kind="adapter",
        config=dataclasses.replace(base.config, lora_rank=2), base_sha256=sha256(paths["model"]),
    )  # fmt: skip
    return paths


@pytest.fixture
def photo(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(samples).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def restore(photo, files, *more):
    out = photo.with_name("out.png")
    named = ("--model", files["model"], "--vae", files["vae"], "--overlap", 16, "--device", "cpu")
    assert main(["restore", *map(str, (photo, "-o", out, *named, *more))]) == 0
    return out.read_bytes()


def test_strengths(photo, files):
    plain = restore(photo, files)
    adapted = restore(photo, files, "--adapter", files["adapter"])
    assert adapted != plain
    assert restore(photo, files, "--adapter", files["adapter"], "--adapter-strength", 0) == plain
    twice = restore(photo, files, *("--adapter", files["adapter"]) * 2, "--adapter-strength", 0.5)
    assert twice != plain
    one = f"{files['adapter']}:0.5"
    assert restore(photo, files, "--adapter", one, "--adapter", one) == twice
    assert restore(photo, files, "--adapter", f"{files['adapter']}:0") == plain
    # Its own strength takes precedence over the common one.
    mixed = ("--adapter", one, "--adapter", files["adapter"], "--adapter-strength", 0.5)
    assert restore(photo, files, *mixed) == twice


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}:3", "the strength must be between 0 and 2, got 3"),
        ("{}:nan", "between 0 and 2"),
        ("{}:x", "no such file"),
    ],
)
def test_a_strength_that_is_none_is_refused(photo, files, capsys, text, words):
    arguments = ["restore", photo, "-o", photo.with_name("x.png"), "--model", files["model"]]
    arguments += ["--vae", files["vae"], "--adapter", text.format(files["adapter"])]
    assert main([str(argument) for argument in arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_file_whose_name_ends_like_a_strength(photo, files):
    odd = files["adapter"].with_name("adapter:0")
    odd.write_bytes(files["adapter"].read_bytes())
    assert restore(photo, files, "--adapter", odd) == restore(
        photo, files, "--adapter", files["adapter"]
    )


def test_applying_in_place_is_merging(base, factors):
    config = dataclasses.replace(base.config, lora_rank=2)
    for strength in (0.0, 0.5, 1.0):
        model = load_transformer(base.state_dict())
        before = {name: value.clone() for name, value in model.state_dict().items()}
        owners = load_adapter(factors, {}, before, config)
        apply_adapter(model, owners, strength)
        merged = merge_adapter(before, factors, strength)
        for name, value in model.state_dict().items():
            assert torch.equal(value, merged[name]), name
        assert base.state_dict().keys() == model.state_dict().keys()


def test_a_changed_scale_beside_the_factors_is_another_adapter(tmp_path, factors):
    """Otherwise --skip-existing would keep the results of the other scale."""
    weights, marks = tmp_path / "adapter_model.safetensors", set()
    save_file(factors, weights)
    for alpha in (8, 64):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
        marks.add(file_mark(weights))
    assert len(marks) == 2


def test_another_base_is_refused(photo, files, make_transformer, capsys):
    other = make_transformer(codebook_dim=4)
    save_safetensors(other.state_dict(), files["model"], kind="transformer", config=other.config)
    arguments = ["restore", photo, "-o", photo.with_name("x.png"), "--model", files["model"]]
    arguments += ["--vae", files["vae"], "--overlap", 16, "--adapter", files["adapter"]]
    assert main([str(argument) for argument in arguments]) == 1
    assert "adapter.safetensors was trained on another base" in capsys.readouterr().err
    assert main([*map(str, arguments[:-1]), "nothing.safetensors"]) == 2
    assert "--adapter nothing.safetensors: no such file" in capsys.readouterr().err


def test_an_adapter_recommends_settings_which_options_override(photo, files, base, factors, capsys):
    save_safetensors(
        factors, files["adapter"], kind="adapter", config=dataclasses.replace(base.config, lora_rank=2),
        more={RECOMMENDED: Recommended("dark", {"color_match": "none", "fidelity": 3.0}).as_metadata()},
    )  # fmt: skip
    taken = restore(photo, files, "--adapter", files["adapter"])
    told = "adapter.safetensors (dark) recommends --color-match none, --fidelity 3.0"
    assert told in capsys.readouterr().err
    named = ("--color-match", "none", "--fidelity", "3")
    assert restore(photo, files, "--adapter", files["adapter"], *named) == taken
    named = ("--color-match", "wavelet", "--fidelity", "0")
    assert restore(photo, files, "--adapter", files["adapter"], *named) != taken
    # At strength 0, its recommendations are not used.
    assert restore(photo, files, "--adapter", f"{files['adapter']}:0") == restore(photo, files)


def test_a_task_is_shown_escaped(photo, files, base, factors, capsys):
    save_safetensors(
        factors, files["adapter"], kind="adapter", config=dataclasses.replace(base.config, lora_rank=2),
        more={RECOMMENDED: Recommended("\x1b[2J", {"color_match": "none"}).as_metadata()},
    )  # fmt: skip
    restore(photo, files, "--adapter", files["adapter"])
    assert "(\\x1b[2J) recommends" in capsys.readouterr().err


def test_a_damaged_recommendation_is_named(photo, files, base, factors, capsys):
    for text in (
        "{",
        '{"task": "x", "settings": {"detail": 7}}',
        '{"task": "x", "settings": {"seed": 1}}',
    ):
        save_safetensors(
            factors, files["adapter"], kind="adapter", config=dataclasses.replace(base.config, lora_rank=2),
            more={RECOMMENDED: text},
        )  # fmt: skip
        arguments = ["restore", photo, "-o", photo.with_name("x.png"), "--model", files["model"]]
        arguments += ["--vae", files["vae"], "--adapter", files["adapter"]]
        assert main([str(argument) for argument in arguments]) == 1
        assert "recommends settings that cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_files_of_other_programs_restore_alike(photo, files, factors, spelling, tmp_path, capsys):
    """By restore, and after `convert`, with what `inspect` says of them."""
    foreign, converted = tmp_path / "foreign.safetensors", tmp_path / "converted.safetensors"
    save_file({k: v.contiguous() for k, v in respelled(factors, spelling).items()}, foreign)
    wanted = restore(photo, files, "--adapter", files["adapter"])
    assert restore(photo, files, "--adapter", foreign) == wanted
    capsys.readouterr()
    assert main(["inspect", str(foreign)]) == 0
    assert "a VARestorer adapter" in capsys.readouterr().out
    assert main(["convert", str(foreign), "-o", str(converted), "--dtype", "fp32"]) == 0
    assert restore(photo, files, "--adapter", converted) == wanted


def scaled(factors, scale):
    return {k: v * (scale if "lora_up" in k else 1) for k, v in factors.items()}


@pytest.mark.parametrize("form", ["folder", "file", "pickle", "alpha", "diffusers"])
def test_factors_that_other_programs_scale(photo, files, base, factors, form, tmp_path):
    """PEFT keeps alpha in a file beside the weights, kohya among them, diffusers in the metadata."""
    peft = {k: v.contiguous() for k, v in respelled(scaled(factors, 0.5), "PEFT").items()}
    place = tmp_path / "peft"
    place.mkdir()
    path = place / ("adapter_model.bin" if form == "pickle" else "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["proj"]}
    if form in ("folder", "file", "pickle"):
        (place / "adapter_config.json").write_text(json.dumps(config))
        torch.save(peft, path) if form == "pickle" else save_file(peft, path)
    elif form == "alpha":
        owners = {name.rsplit(".lora_", 1)[0] for name in factors}
        alphas = {f"{kohya(owner)}.alpha": torch.tensor(4.0) for owner in owners}
        state = respelled(scaled(factors, 0.5), "kohya") | alphas
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        told = {f"transformer.{key}": value for key, value in config.items()}
        save_file(peft, path, {"lora_adapter_metadata": json.dumps(told)})
    wanted = restore(photo, files, "--adapter", files["adapter"])
    given = place if form == "folder" else path
    assert restore(photo, files, "--adapter", given) == wanted
    if form == "folder":
        assert main(["inspect", str(place)]) == 0
        assert restore(photo, files, "--adapter", f"{place}:1") == wanted


def test_what_is_no_plain_lora_is_said_by_every_command(photo, files, factors, tmp_path, capsys):
    path = tmp_path / "dora.safetensors"
    state = {k: v.contiguous() for k, v in respelled(factors, "PEFT").items()}
    owner = next(iter(factors)).rsplit(".lora_", 1)[0]
    save_file(
        {**state, f"base_model.model.{owner}.lora_magnitude_vector": torch.ones(4)},
        path,
    )
    arguments = ["restore", photo, "-o", photo.with_name("x.png"), "--model", files["model"]]
    arguments += ["--vae", files["vae"], "--overlap", 16, "--adapter", path]
    for command in (
        arguments,
        ["inspect", path],
        ["convert", path, "-o", tmp_path / "y.safetensors"],
    ):
        assert main([str(word) for word in command]) == 1
        said = capsys.readouterr()
        assert "DoRA magnitudes" in said.out + said.err
        assert "of another model" not in said.out + said.err


def test_inspect_finds_factors_that_do_not_belong_together(factors, tmp_path, capsys):
    path = tmp_path / "half.safetensors"
    name = next(name for name in factors if "lora_up" in name)
    for change, words in (
        ({}, "only one of the two factors"),
        ({name: torch.ones(4, 7)}, "do not fit each other"),
    ):
        save_file({k: v for k, v in factors.items() if k != name} | change, path)
        assert main(["inspect", str(path)]) == 1
        assert words in capsys.readouterr().out
        assert main(["convert", str(path), "-o", str(tmp_path / "x.safetensors")]) == 1
        assert words in capsys.readouterr().err
