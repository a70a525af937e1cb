"""The T5 text encoder, with a tiny random T5 and a word-level tokenizer built here."""

import json
import sys

import pytest
import torch
from tiny_t5 import save_t5

from varestorer_core.cli.main import main
from varestorer_core.errors import CheckpointError, VARestorerError
from varestorer_core.text_encoder import MAX_TOKENS, load_text_encoder


@pytest.fixture
def folder(tmp_path):
    return save_t5(tmp_path)


def test_features_are_those_of_the_whole_model(folder):
    transformers = pytest.importorskip("transformers")
    encoder = load_text_encoder(folder, channels=16)
    features, mask = encoder.encode("a sharp photo")
    assert features.shape == (1, 4, 16)
    assert features.dtype == torch.float32
    assert mask.tolist() == [[True] * 4]
    whole = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = whole.encoder(torch.tensor([[3, 4, 5, 1]])).last_hidden_state
    assert torch.allclose(features, wanted, atol=1e-6)


def test_a_long_prompt_is_cut_and_still_ends_with_eos(folder):
    encoder = load_text_encoder(folder, dtype=torch.bfloat16)
    features, mask = encoder.encode("photo " * 600)
    assert features.shape == (1, MAX_TOKENS, 16)
    assert features.dtype == torch.float32
    assert mask.shape == (1, MAX_TOKENS)
    tokens = encoder.tokenizer("photo " * 600, max_length=MAX_TOKENS, truncation=True).input_ids
    assert tokens[-1] == 1


def test_an_empty_prompt_is_the_end_token_alone(folder):
    features, _ = load_text_encoder(folder).encode("")
    assert features.shape == (1, 1, 16)


def test_another_width_is_refused_before_loading(folder):
    with pytest.raises(CheckpointError, match="width 16, but the transformer expects 2048"):
        load_text_encoder(folder, channels=2048)


def test_missing_weights_are_refused(folder):
    safetensors = pytest.importorskip("safetensors.torch")
    path = folder / "model.safetensors"
    weights = safetensors.load_file(path)
    weights.pop("encoder.block.0.layer.0.SelfAttention.q.weight")
    safetensors.save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="does not fit its config"):
        load_text_encoder(folder)


def test_folders_without_weights_or_of_other_models_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="folder without"):
        load_text_encoder(folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "bert"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'bert'; expected a T5"):
        load_text_encoder(folder)


def test_a_path_that_is_no_model_folder(tmp_path):
    with pytest.raises(CheckpointError, match="flan-t5-xl"):
        load_text_encoder(tmp_path)


def test_missing_transformers_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VARestorerError, match=r"pip install transformers sentencepiece"):
        load_text_encoder(tmp_path)


class Boom:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def no_questions(monkeypatch):
    """Fail a test that asks for input: users would see a prompt, and a server would wait forever."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was asked"))


@pytest.mark.usefixtures("no_questions")
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_folder_is_never_run(folder, tmp_path_factory, file):
    ran = tmp_path_factory.mktemp("ran") / "it"
    (folder / "evil.py").write_text(
        f"open({str(ran)!r}, 'w')\n"
        "from transformers import T5Config, PreTrainedTokenizerFast\n"
        "class Config(T5Config): pass\n"
        "class Model: pass\n"
        "class Tokenizer(PreTrainedTokenizerFast): pass\n"
    )
    names = {
        "AutoConfig": "evil.Config",
        "AutoModel": "evil.Model",
        "AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"],
    }
    for kind in ("t5", "evil"):
        values = json.loads((folder / file).read_text())
        values["auto_map"] = names
        if file == "config.json":
            values["model_type"] = kind
        else:
            values["tokenizer_class"] = "Tokenizer" if kind == "evil" else values["tokenizer_class"]
        values["trust_remote_code"] = True  # must not be decided by a file
        (folder / file).write_text(json.dumps(values))
        try:
            load_text_encoder(folder, channels=16)
        except CheckpointError as error:
            assert str(error).isprintable()  # noqa: PT017 (a result is as good)
        assert not ran.exists()


@pytest.mark.usefixtures("no_questions")
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_load_as_tensors_and_nothing_else(folder, tmp_path_factory, zipped):
    safetensors = pytest.importorskip("safetensors.torch")
    ran = tmp_path_factory.mktemp("ran") / "it"
    weights = safetensors.load_file(folder / "model.safetensors")
    wanted, _ = load_text_encoder(folder).encode("a sharp photo")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    features, _ = load_text_encoder(folder).encode("a sharp photo")
    assert torch.equal(features, wanted)
    torch.save({**weights, "evil": Boom(ran)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="could run code"):
        load_text_encoder(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", '{"model_type": "t5", "num_layers": 1e9}'),
        ("config.json", '{"model_type": "t5", "d_model": "\\u001b[2J"}'),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "[]"),
        ("tokenizer_config.json", "\x00"),
        ("model.safetensors", ""),
        ("model.safetensors", "<html>"),
    ],
)
def test_a_damaged_folder_is_one_sentence(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_text_encoder(folder)
    assert str(caught.value).isprintable()


def test_weights_of_nan_are_refused(folder):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = safetensors.load_file(folder / "model.safetensors")
    weights["shared.weight"][1, 2] = float("nan")
    safetensors.save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"NaN or infinite values in shared\.weight"):
        load_text_encoder(folder)


def test_inspect_says_what_loading_would_refuse(folder, capsys):
    assert main(["inspect", str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_layers": 3}))
    capsys.readouterr()
    assert main(["inspect", str(folder)]) == 1
    assert "does not fit its config.json" in capsys.readouterr().out
