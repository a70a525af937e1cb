"""Captioners and prompts for each picture, with a tiny random BLIP and T5 that are built here."""

import json
import shutil
import sys

import pytest
import torch
from PIL import Image
from tiny_t5 import save_t5

from varestorer_core.captioner import load_captioner
from varestorer_core.checkpoint.save import save_safetensors
from varestorer_core.cli.main import main
from varestorer_core.errors import CheckpointError, SettingError, VARestorerError
from varestorer_core.loading import load_restorer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "green", "dog", "on"]


@pytest.fixture(scope="session")
def saved_blip(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    path = tmp_path_factory.mktemp("blip")
    torch.manual_seed(1)
    (path / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(str(path / "vocab.txt"))
    size = {"height": 16, "width": 16}
    transformers.BlipProcessor(
        transformers.BlipImageProcessor(size=size), tokenizer
    ).save_pretrained(path)
    shared = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    shared["intermediate_size"] = 16
    text = {
        **shared,
        "vocab_size": len(WORDS),
        "encoder_hidden_size": 16,
        "max_position_embeddings": 32,
        "bos_token_id": 5,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
        "is_decoder": True,
    }
    config = transformers.BlipConfig(
        text_config=text,
        vision_config={**shared, "image_size": 16, "patch_size": 8},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    model = transformers.BlipForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.5)
    model.save_pretrained(path)
    return path


@pytest.fixture
def blip(saved_blip, tmp_path):
    return shutil.copytree(saved_blip, tmp_path / "blip")


@pytest.fixture
def t5(tmp_path):
    (tmp_path / "t5").mkdir()
    return save_t5(tmp_path / "t5")


def test_a_caption_is_that_of_transformers(blip, capfd):
    transformers = pytest.importorskip("transformers")
    rgb = torch.rand(3, 20, 28, generator=torch.Generator().manual_seed(2))
    captioner = load_captioner(blip)
    text = captioner.describe(rgb)
    assert text
    assert text == captioner.describe(rgb)
    assert capfd.readouterr().err == ""
    model = transformers.BlipForConditionalGeneration.from_pretrained(blip).eval()
    processor = transformers.BlipProcessor.from_pretrained(blip)
    pixels = (rgb * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    inputs = processor(images=Image.fromarray(pixels), return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(**inputs, do_sample=False, max_length=20)
    assert text == " ".join(processor.decode(tokens[0], skip_special_tokens=True).split())


def test_bf16(blip):
    captioner = load_captioner(blip, dtype=torch.bfloat16)
    assert isinstance(captioner.describe(torch.rand(3, 16, 16)), str)


def test_weights_that_are_missing_are_not_made_up(blip):
    safetensors = pytest.importorskip("safetensors.torch")
    path = blip / "model.safetensors"
    weights = safetensors.load_file(path)
    key = "vision_model.encoder.layers.0.mlp.fc1.weight"
    safetensors.save_file({k: v for k, v in weights.items() if k != key}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"fc1\.weight is missing or has another shape"):
        load_captioner(blip)
    safetensors.save_file({**weights, key: torch.full_like(weights[key], torch.nan)}, path)
    with pytest.raises(CheckpointError):
        load_captioner(blip)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", '{"model_type": "blip", "text_config": 3}'),
        ("model.safetensors", ""),
        ("model.safetensors", "<html>"),
        ("tokenizer_config.json", "\x00"),
    ],
)
def test_a_damaged_folder_is_one_sentence(blip, file, content):
    (blip / file).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        load_captioner(blip)
    assert str(caught.value).isprintable()


def test_missing_transformers_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    (tmp_path / "model.safetensors").write_text("x")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VARestorerError, match=r"pip install transformers sentencepiece"):
        load_captioner(tmp_path)


def test_code_of_a_folder_is_never_run(blip, tmp_path_factory, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was asked"))
    ran = tmp_path_factory.mktemp("ran") / "it"
    (blip / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    for file in ("config.json", "tokenizer_config.json", "processor_config.json"):
        values = json.loads((blip / file).read_text()) if (blip / file).exists() else {}
        values["auto_map"] = {"AutoConfig": "evil.C", "AutoProcessor": "evil.P"}
        values["trust_remote_code"] = True  # must not be decided by a file
        (blip / file).write_text(json.dumps(values))
    try:
        load_captioner(blip)
    except CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017 (a result is as good)
    assert not ran.exists()


@pytest.fixture
def small(tmp_path, make_transformer, make_tokenizer):
    """Return the files of networks that read the T5's features."""
    model, vae = make_transformer(), make_tokenizer()
    paths = tmp_path / "model.safetensors", tmp_path / "vae.safetensors"
    for network, path, kind in zip((model, vae), paths, ("transformer", "tokenizer"), strict=True):
        config = network.config
        save_safetensors(dict(network.state_dict()), path, kind=kind, config=config, note="")
    return paths


def test_every_prompt_has_the_result_of_a_run_of_its_own(small, t5):
    rgb = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(3))

    def load(**options):
        return load_restorer(*small, text_encoder=t5, device="cpu", dtype="fp32", **options)

    many = load(prompts=iter(["a photo", "sharp sharp"]), prompt="photo")
    results = [many.restore(rgb, upscale=1, prompt=p) for p in ("a photo", "sharp sharp", None)]
    for prompt, result in zip(("a photo", "sharp sharp", "photo"), results, strict=True):
        assert torch.equal(load(prompt=prompt).restore(rgb, upscale=1), result)
    assert not torch.equal(results[0], results[1])
    with pytest.raises(SettingError, match="'other' was not encoded"):
        many.restore(rgb, prompt="other")
    without = load_restorer(*small, device="cpu", dtype="fp32").restore(rgb, upscale=1)
    assert torch.equal(load(prompts=["a photo"]).restore(rgb, upscale=1), without)


def test_the_command_captions_pictures_without_a_text(small, t5, blip, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, colour in (("a", (200, 30, 30)), ("b", (30, 200, 30)), ("c", (9, 9, 9))):
        Image.new("RGB", (16, 16), colour).save(folder / f"{name}.png")
    (folder / "b.txt").write_text("sharp photo")
    (folder / "d.png").write_bytes(b"\x89PNG")
    given = ["--model", small[0], "--vae", small[1], "--text-encoder", t5, "--captioner", blip]
    start = ["restore", folder, "-o", tmp_path / "out", *given, "--captions", "beside"]
    command = [*map(str, start), "--device", "cpu", "--upscale", "1", "--skip-existing"]
    assert main(command) == 1  # the damaged picture
    said = capsys.readouterr()
    assert "3 restored, 1 failed" in said.out
    rgb = torch.tensor([200, 30, 30]).div(255)[:, None, None].expand(3, 16, 16)
    text = load_captioner(blip).describe(rgb)
    assert f"a.png has the caption: {text}" in said.err
    manifest = tmp_path / "out" / ".varestorer-manifest.jsonl"
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    notes = {record["input"][-5:]: record["notes"] for record in records}
    assert notes["a.png"] == [f"has the caption: {text}"]
    assert notes["b.png"] == []
    assert main(command) == 1
    assert "0 restored, 1 failed, 3 already done" in capsys.readouterr().out


def test_another_encoder_is_refused_before_captions_are_written(t5, blip, tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    command = ["restore", tmp_path / "a.png", "-o", tmp_path / "out.png", "--device", "cpu"]
    command += ["--text-encoder", t5, "--captioner", blip]
    (blip / "model.safetensors").write_bytes(b"not read")
    assert main([*map(str, command)]) == 1
    assert "width 16, but the transformer expects" in capsys.readouterr().err


FLORENCE_WORDS = ["<s>", "<pad>", "</s>", "<unk>", "<image>", "What", "does", "a", "dog"]


def test_florence_is_asked_for_a_caption(tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: index for index, word in enumerate(FLORENCE_WORDS)}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    named = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, extra_special_tokens={"image_token": "<image>"}, **named
    )
    size = {"height": 64, "width": 64}
    images = transformers.CLIPImageProcessor(size=size, crop_size=size)
    images.image_seq_length = 5  # four patches and their mean
    transformers.Florence2Processor(images, tokenizer).save_pretrained(tmp_path)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    layers = {f"{part}_layers": 1 for part in ("encoder", "decoder")}
    layers |= {f"{part}_attention_heads": 2 for part in ("encoder", "decoder")}
    layers |= {f"{part}_ffn_dim": 8 for part in ("encoder", "decoder")}
    config = transformers.Florence2Config(
        vision_config={
            "depths": (1, 1, 1, 1),
            "patch_size": (7, 3, 3, 3),
            **dict.fromkeys(("embed_dim",), (8, 8, 8, 8)),
            **dict.fromkeys(("num_heads", "num_groups"), (2, 2, 2, 2)),
            "window_size": 4,
            "projection_dim": 8,
            "max_position_embeddings": 10,
        },
        text_config={
            **layers,
            **ids,
            "model_type": "bart",
            "vocab_size": len(FLORENCE_WORDS),
            "d_model": 8,
            "max_position_embeddings": 100,
            "decoder_start_token_id": 2,
        },
        image_token_id=4,
        **ids,
    )
    transformers.Florence2ForConditionalGeneration(config).save_pretrained(tmp_path)
    captioner = load_captioner(tmp_path)
    asked = []
    processor = captioner.processor
    captioner.processor = lambda **given: asked.append(given["text"]) or processor(**given)
    captioner.processor.decode = processor.decode
    assert isinstance(captioner.describe(torch.rand(3, 40, 50)), str)
    assert asked == ["<CAPTION>"]
