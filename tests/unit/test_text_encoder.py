"""The T5 text encoder, with a tiny random T5 and a word-level tokenizer built here."""

import json
import sys

import pytest
import torch

from varestorer_core.errors import CheckpointError, VARestorerError
from varestorer_core.text_encoder import MAX_TOKENS, load_text_encoder

WORDS = ["<pad>", "</s>", "<unk>", "a", "sharp", "photo"]


@pytest.fixture
def folder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    return tmp_path


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
    with pytest.raises(CheckpointError, match="width 16, the transformer expects 2048"):
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
    with pytest.raises(CheckpointError, match="'bert', a T5 was expected"):
        load_text_encoder(folder)


def test_a_path_that_is_no_model_folder(tmp_path):
    with pytest.raises(CheckpointError, match="flan-t5-xl"):
        load_text_encoder(tmp_path)


def test_missing_transformers_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VARestorerError, match=r"pip install 'varestorer\[text\]'"):
        load_text_encoder(tmp_path)
