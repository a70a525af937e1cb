"""The cleaner: spandrel's SwinIR called without clamping; small networks built here, no weights."""

import sys

import pytest
import torch

from varestorer_core.cleaner import _pad, load_cleaner
from varestorer_core.cli.main import main
from varestorer_core.errors import CheckpointError, VARestorerError
from varestorer_core.kernels import foreign_layers


def tiny_swinir():
    """Return the state dict of a small network in the layout of general_swinir_v1.ckpt."""
    pytest.importorskip("spandrel")  # not there without its own requirements, either
    architecture = pytest.importorskip(
        "spandrel.architectures.SwinIR", reason="spandrel is not installed"
    )
    network = architecture.SwinIR(
        img_size=16,
        embed_dim=12,
        depths=[2],
        num_heads=[2],
        window_size=8,
        mlp_ratio=2,
        upscale=8,
        upsampler="nearest+conv",
        start_unshuffle=8,
    )
    state_dict = network.state_dict()
    for leaf in ("weight", "bias"):
        state_dict[f"conv_first.1.{leaf}"] = state_dict.pop(f"conv_first.{leaf}")
    return state_dict


def test_the_network_is_called_on_zero_to_one_and_not_clamped():
    cleaner = load_cleaner(tiny_swinir(), name="a.ckpt")
    images = torch.rand(2, 3, 64, 128) * 2 - 1
    cleaned = cleaner(images)
    assert cleaned.shape == images.shape
    with torch.inference_mode(), foreign_layers(images.device):
        assert torch.equal(cleaned, 2 * cleaner.network((images + 1) / 2) - 1)
    last = cleaner.network.get_parameter("conv_last.bias")
    last.data.fill_(3.0)
    assert cleaner(images).max() > 1


@pytest.mark.parametrize(("height", "width"), [(60, 126), (1, 5), (65, 1)])
def test_any_size_is_padded_by_reflection_and_cropped(height, width):
    images = torch.rand(1, 3, height, width)
    padded = _pad(images)
    assert padded.shape[-2] % 64 == padded.shape[-1] % 64 == 0
    assert torch.equal(padded[..., :height, :width], images)
    if (height, width) == (60, 126):
        assert torch.equal(padded, torch.nn.functional.pad(images, (0, 2, 0, 4), mode="reflect"))
    cleaner = load_cleaner(tiny_swinir(), name="a.ckpt")
    assert cleaner(images).shape == images.shape


def test_lightning_layout_is_unwrapped():
    state_dict = tiny_swinir()
    wrapped = {"state_dict": {f"module.{key}": value for key, value in state_dict.items()}}
    images = torch.rand(1, 3, 64, 64)
    plain = load_cleaner(state_dict, name="a")(images)
    assert torch.equal(plain, load_cleaner(wrapped, name="b")(images))


def test_other_files_are_refused():
    pytest.importorskip("spandrel", reason="spandrel is not installed")
    with pytest.raises(CheckpointError, match=r"vae\.pth is not a model that spandrel supports"):
        load_cleaner({"encoder.conv_in.weight": torch.zeros(1)}, name="vae.pth")
    damaged = tiny_swinir()
    damaged["conv_last.weight"] = torch.zeros(1, 2, 3)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt"):
        load_cleaner(damaged, name="bad.ckpt")


def test_missing_spandrel_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(VARestorerError, match=r"pip install spandrel"):
        load_cleaner({}, name="a.ckpt")


def test_products_in_bfloat16_change_little():
    state_dict = tiny_swinir()
    exact = load_cleaner(dict(state_dict), name="a.ckpt")
    cleaner = load_cleaner(state_dict, name="a.ckpt", compute_dtype=torch.bfloat16)
    kinds = set()
    convolution = cleaner.network.get_submodule("conv_first")
    convolution.register_forward_hook(lambda _module, _args, out: kinds.add(out.dtype))
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    cleaned, expected = cleaner(images), exact(images)
    assert cleaned.dtype == torch.float32
    assert kinds == {torch.bfloat16}
    assert next(cleaner.network.parameters()).dtype == torch.float32
    assert (cleaned - expected).norm() < 0.01 * expected.norm()


def test_another_type_multiplies_as_the_weights_are_stored():
    state_dict = tiny_swinir()
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    plain, half = (
        load_cleaner(dict(state_dict), name="a.ckpt", compute_dtype=dtype)(images)
        for dtype in (None, torch.float16)
    )
    assert torch.equal(plain, half)


def test_values_that_are_not_finite_are_refused():
    state = tiny_swinir()
    state["conv_first.1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(
        CheckpointError, match=r"1 tensor with NaN or infinite values \(first: conv_first"
    ):
        load_cleaner(state, name="a.ckpt")


def test_other_than_three_channels_are_refused():
    state = tiny_swinir()
    for leaf in ("weight", "bias"):
        state[f"conv_last.{leaf}"] = state[f"conv_last.{leaf}"][:1].clone()
    with pytest.raises(CheckpointError, match="SwinIR restorer"):
        load_cleaner(state, name="a.ckpt")


def test_inspect_says_what_loading_would_refuse(tmp_path, capsys):
    path = tmp_path / "a.ckpt"
    torch.save(tiny_swinir(), path)
    assert main(["inspect", str(path)]) == 0
    state = tiny_swinir()
    for leaf in ("weight", "bias"):
        state[f"conv_last.{leaf}"] = state[f"conv_last.{leaf}"][:1].clone()
    torch.save(state, path)
    capsys.readouterr()
    assert main(["inspect", str(path)]) == 1
    assert "SwinIR restorer" in capsys.readouterr().out
