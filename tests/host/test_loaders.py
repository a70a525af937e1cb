"""Right and wrong files in every loader: a wrong one gives one clear sentence."""

import pickle
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.host

ASSETS = Path(__file__).parents[2] / "varestorer_core" / "assets"
TRANSFORMER = ASSETS / "tiny_transformer.safetensors"
TOKENIZER = ASSETS / "tiny_tokenizer.safetensors"
BUNDLED = "varestorer-tiny (bundled)"
LOADERS = {
    "diffusion_models": ("VARestorerLoadModel", "model_name", TRANSFORMER),
    "vae": ("VARestorerLoadVAE", "vae_name", TOKENIZER),
    "text_encoders": ("VARestorerLoadTextEncoder", "clip_name", None),
}
KIND = {
    "diffusion_models": "a VARestorer transformer",
    "vae": "a visual tokenizer",
    "text_encoders": "the encoder of flan-t5-xl",
}


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def load(host, folder: str, name: str) -> list[str]:
    """Run a loader and return the sentences of its failure, if it fails."""
    class_type, widget, _ = LOADERS[folder]
    prompt = {
        "load": {"class_type": class_type, "inputs": {widget: name}},
        "sink": {"class_type": "TestSink", "inputs": {"anything": ["load", 0]}},
    }
    try:
        host.run(prompt)
    except type(host).Error as error:
        return error.messages
    return []


def one_sentence(messages: list[str], name: str) -> str:
    """Check the form of an error and return it: one message, one line, naming the file."""
    (message,) = messages
    assert "\n" not in message
    assert name in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("folder", LOADERS)
def test_a_missing_file_is_named_before_anything_runs(host, folder):
    message = one_sentence(load(host, folder, "not there.safetensors"), "not there.safetensors")
    assert f"models/{folder}" in message
    assert "huggingface.co" in message


def test_a_missing_part_of_a_split_model_is_named_before_anything_runs(host):
    first, second = (f"model-0000{part}-of-00002.safetensors" for part in (1, 2))
    path = host.model_file("text_encoders", first)
    inputs = {"clip_name": first}
    prompt = {
        "load": {"class_type": "VARestorerLoadTextEncoder", "inputs": inputs},
        "sink": {"class_type": "TestSink", "inputs": {"anything": ["load", 0]}},
    }
    with pytest.raises(type(host).Error) as caught:
        host.queue(prompt)
    message = one_sentence(caught.value.messages, first)
    assert f"{second!r} are not in models/text_encoders" in message
    path.touch()
    try:
        with pytest.raises(type(host).Error) as caught:
            host.queue(prompt)
    finally:
        path.unlink()
    message = one_sentence(caught.value.messages, second)
    assert first not in message
    assert "huggingface.co/google/flan-t5-xl" in message


@pytest.mark.parametrize("folder", LOADERS)
def test_a_model_of_another_kind_is_called_what_it_is(host, folder):
    other = TOKENIZER if folder == "diffusion_models" else TRANSFORMER
    shutil.copy(other, host.model_file(folder, "other kind.safetensors"))
    message = one_sentence(load(host, folder, "other kind.safetensors"), "other kind.safetensors")
    found = "a visual tokenizer" if folder == "diffusion_models" else "a VARestorer transformer"
    assert found in message
    assert KIND[folder] in message


@pytest.mark.parametrize("folder", LOADERS)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_damaged_file_is_called_damaged(host, folder, ending):
    name = f"damaged.{ending}"
    host.model_file(folder, name).write_bytes(TRANSFORMER.read_bytes()[:3000])
    assert "damaged" in one_sentence(load(host, folder, name), name)


@pytest.mark.parametrize("folder", LOADERS)
def test_a_pickle_with_code_is_refused_and_not_run(host, folder):
    mark = host.base / f"executed by {folder}"
    host.model_file(folder, "evil.pth").write_bytes(pickle.dumps({"a": Payload(mark)}))
    one_sentence(load(host, folder, "evil.pth"), "evil.pth")
    assert not mark.exists()


@pytest.mark.parametrize("folder", ["diffusion_models", "vae"])
def test_a_file_is_known_by_its_content_not_its_name(host, folder):
    _, _, right = LOADERS[folder]
    (host.model_file(folder, "sub folder")).mkdir(exist_ok=True)
    shutil.copy(right, host.model_file(folder, "sub folder/renamed.safetensors"))
    assert load(host, folder, "sub folder/renamed.safetensors") == []


@pytest.mark.parametrize(
    ("class_type", "widget"),
    [
        *((class_type, widget) for class_type, widget, _ in LOADERS.values()),
        ("VARestorerLoadAdapter", "adapter_name"),
        ("VARestorerConvertModel", "file"),
    ],
)
def test_no_name_at_all_is_answered_in_a_sentence(host, class_type, widget):
    """As programs send it that fill in /prompt by themselves."""
    inputs = {widget: None}
    prompt = {"model": {"class_type": "VARestorerLoadModel", "inputs": {"model_name": BUNDLED}}}
    if widget == "adapter_name":
        inputs |= {"model": ["model", 0], "strength": 1.0}
    if widget == "file":
        inputs |= {"part": "model"}
    prompt["load"] = {"class_type": class_type, "inputs": inputs}
    prompt["sink"] = {"class_type": "TestSink", "inputs": {"anything": ["load", 0]}}
    with pytest.raises(type(host).Error) as caught:
        host.run(prompt)
    (message,) = caught.value.messages
    assert message.startswith("No file is chosen. Choose one")
