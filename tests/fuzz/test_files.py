"""For any file, the outcome is a result or one sentence: no traceback, no hang, no code that ran.

The short form runs like any test; the long one is `pytest tests/fuzz --long` (see docs/reliability.md).
"""

import io
import json
import signal
import time
import warnings

import hypothesis
import hypothesis.strategies
import pytest
import torch
from damage import STRANGE, damaged, damaged_values
from PIL import Image
from safetensors.torch import save

from varestorer_core.checkpoint import identify, load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.checkpoint.examine import examine
from varestorer_core.config import to_dict, tokenizer_config, transformer_config
from varestorer_core.distill.state import load_state, save_state
from varestorer_core.errors import VARestorerError
from varestorer_core.lora.file import load_adapter
from varestorer_core.pictures import read_picture
from varestorer_core.settings import RestoreSettings

LONGEST = 10
"""Seconds of processor time that one input may take: another program that uses the processor is no hang."""
LONGEST_WAIT = 120
"""Seconds that one input may take where it waits for something."""


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def outcomes(target, inputs, count, make, attempt):
    """Try many inputs; fail with the smallest that ends in anything but a result or a sentence.

    Args:
        make: returns an input from a random generator, every value of which Hypothesis chooses.
    """
    number, seed = inputs
    counts = count(target)

    def hang(*_):
        raise TimeoutError(f"an input took more than {LONGEST} seconds")

    def limit(seconds, longest_wait):
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, seconds)
            signal.alarm(longest_wait)

    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, hang)
        signal.signal(signal.SIGPROF, hang)

    @hypothesis.seed(f"{seed} {target}")
    @hypothesis.settings(
        max_examples=number,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )
    @hypothesis.given(hypothesis.strategies.randoms(use_true_random=False))
    def one(chance):
        given = make(chance)
        limit(LONGEST, LONGEST_WAIT)
        begun = time.process_time()
        try:
            attempt(given)
            counts["results"] += 1
        except VARestorerError as error:
            said = str(error)
            assert said.strip(), f"{target} of seed {seed}: an error without a message"
            assert said.isprintable(), f"{target} of seed {seed}: {said!r}"
            counts["sentences"] += 1
        except BaseException as error:
            raise AssertionError(f"{target} of seed {seed}: {type(error).__name__}") from error
        finally:
            limit(0, 0)
        counts["slowest in ms"] = max(
            counts["slowest in ms"], round(1000 * (time.process_time() - begun))
        )

    one()


def pickled(content, *, zipped):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.fixture
def state(transformer):
    return transformer.state_dict()


def load_file(path):
    """Load a model file like the command."""
    examine(path)
    tensors, metadata = read_checkpoint(path)
    load = {"transformer": load_transformer, "tokenizer": load_tokenizer}
    kind = identify(tensors, metadata).kind
    load.get(kind, load_transformer)(tensors, metadata, name=path.name, consume=True)


def writer(path, originals, suffixes):
    """Return a function that writes a damaged file and returns its path."""

    def make(chance):
        target = path.with_suffix(chance.choice(suffixes))
        target.write_bytes(damaged(chance.choice(originals), chance))
        return target

    return make


def test_safetensors(tmp_path, state, transformer, inputs, count):
    config = json.dumps(to_dict(transformer.config))
    described = {
        "varestorer.format": "1",
        "varestorer.kind": "transformer",
        "varestorer.config": config,
    }
    originals = [save(state), save(state, described), save({"a": torch.ones(2)})]
    make = writer(tmp_path / "model", originals, (".safetensors", ".sft", ".pth"))
    outcomes("safetensors", inputs, count, make, load_file)


def test_pickles(tmp_path, state, inputs, count):
    originals = [pickled(state, zipped=False), pickled({"vae": {"a": torch.ones(2)}}, zipped=False)]
    make = writer(tmp_path / "model", originals, (".pth", ".pt", ".ckpt", ".safetensors"))
    outcomes("pickles", inputs, count, make, load_file)


def test_zips(tmp_path, state, inputs, count):
    originals = [pickled(state, zipped=True), pickled({"vae": {"a": torch.ones(2)}}, zipped=True)]
    make = writer(tmp_path / "model", originals, (".pth", ".pt", ".ckpt", ".safetensors"))
    outcomes("zips", inputs, count, make, load_file)


def test_adapters(tmp_path, transformer, inputs, count):
    model = transformer
    width = model.config.embed_dim
    owner = "blocks.0.sa.proj"
    factors = {
        f"{owner}.lora_down.weight": torch.ones(2, width),
        f"{owner}.lora_up.weight": torch.ones(width, 2),
    }
    foreign = {f"diffusion_model.{name}": value for name, value in factors.items()}
    kohya = {
        f"lora_unet_blocks_0_sa_proj.{name.split('.', 3)[3]}": value
        for name, value in factors.items()
    }
    kohya["lora_unet_blocks_0_sa_proj.alpha"] = torch.tensor(1.0)
    peft = {
        f"base_model.model.{owner}.lora_A.weight": torch.ones(2, width),
        f"base_model.model.{owner}.lora_B.weight": torch.ones(width, 2),
    }
    config = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "use_rslora": False,
        "use_dora": False,
        "alpha_pattern": {"proj": 8, "mat_qkv": 1},
    }
    originals = [save(factors), save(foreign), save(kohya), pickled(factors, zipped=False)]
    write = writer(tmp_path / "adapter", originals, (".safetensors", ".pth"))
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(save(peft))

    def make(chance):
        if chance.random() < 0.7:
            return write(chance)
        text = json.dumps(damaged_values(config, chance)).encode()
        text = damaged(text, chance) if chance.random() < 0.3 else text
        (folder / "adapter_config.json").write_bytes(text)
        return folder

    def attempt(path):
        tensors, metadata = read_checkpoint(path)
        load_adapter(tensors, metadata, model.state_dict(), model.config, name=path.name)

    outcomes("adapters", inputs, count, make, attempt)


def picture_bytes():
    image = Image.effect_noise((24, 20), 60).convert("RGB")
    found = []
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        found.append(buffer.getvalue())
    return found


def test_pictures(tmp_path, inputs, count):
    def attempt(path):
        picture = read_picture(path)
        assert picture.rgb.ndim == 3
        assert bool(torch.isfinite(picture.rgb).all())

    make = writer(tmp_path / "a", picture_bytes(), (".png", ".jpg", ".tif", ".webp"))
    outcomes("pictures", inputs, count, make, attempt)


def test_configurations(transformer, tokenizer, state, inputs, count):
    configs = [to_dict(transformer.config), to_dict(tokenizer.config)]

    def make(chance):
        index = chance.randrange(2)
        return index, damaged_values(configs[index], chance)

    def attempt(given):
        index, values = given
        if index == 0:
            load_transformer(dict(state), {"varestorer.config": json.dumps(values)})
        (transformer_config, tokenizer_config)[index](values)

    outcomes("config.json", inputs, count, make, attempt)


def test_training_states(tmp_path, inputs, count):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    kept = {"modules": {"m": module}, "optimizer": optimizer}
    save_state(tmp_path / "state.pt", step=3, **kept)
    make = writer(tmp_path / "broken", [(tmp_path / "state.pt").read_bytes()], (".pt",))
    outcomes("state.pt", inputs, count, make, lambda path: load_state(path, **kept))


def test_values_of_settings(inputs, count):
    """Settings of a restoration, as sent by /prompt and scripts."""
    fields = ("upscale", "seed", "detail", "fidelity", "overlap", "color_match", "tile_batch")

    def make(chance):
        return {
            name: chance.choice(STRANGE) for name in chance.sample(fields, chance.randrange(1, 4))
        }

    outcomes("settings", inputs, count, make, lambda values: RestoreSettings(**values))
