"""`varestorer profile`: the counts agree with the networks."""

import json

import pytest
import torch
from safetensors.torch import save_file

from varestorer_core.assets import TINY_TRANSFORMER, adapter_file, asset_path
from varestorer_core.checkpoint import read_checkpoint, save_safetensors
from varestorer_core.cli.main import main
from varestorer_core.config import INFINITY_VAE_D32, VARESTORER_2B
from varestorer_core.evaluate import cost
from varestorer_core.evaluate.cost import count_flops, count_parameters
from varestorer_core.schedule import get_schedule


def run(capsys, *arguments):
    assert main(["profile", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1]), "\n".join(lines)


def test_the_bundled_model_is_counted_and_timed(capsys, bundled):
    document, text = run(capsys, "--device", "cpu", "--repeats", "1")
    networks = bundled.stages
    whole = sum(
        p.numel() for n in (networks.tokenizer, networks.transformer) for p in n.parameters()
    )
    assert document["parameters"]["total"] == whole
    config = networks.tokenizer.config
    schedule = get_schedule(1.0, config.pixel_class)
    assert document["tile"] == schedule.pixel_size(config.patch_size)[0]
    assert document["tokens"] == schedule.num_tokens_long
    for stage in ("encode", "transformer", "decode"):
        row = document["stages"][stage]
        assert row["flop"] == 2 * row["multiply_adds"] > 0
        assert row["seconds"] > 0
    assert document["peak_memory_bytes"] is None or document["peak_memory_bytes"] > 1 << 20
    assert f"| tiny_transformer | {document['parameters']['transformer'] / 1e6:.1f} |" in text


def test_a_convolution_by_hand(make_tokenizer, make_transformer):
    """The first convolution of the encoder has its part of the count."""
    tokenizer, transformer = make_tokenizer(), make_transformer()
    schedule = get_schedule(1.0, "0.06M")
    wide = make_tokenizer(base_channels=8, num_res_blocks=2)
    one, two = (
        count_flops(t.config, transformer.config, schedule)[0].flops for t in (tokenizer, wide)
    )
    side = schedule.pixel_size(8)[0]
    widths = [8, 8, 16, 16]
    # Another block of two 3 x 3 convolutions per level, at half the resolution each time.
    added = sum(2 * 2 * 9 * w * w * (side // 2**i) ** 2 for i, w in enumerate(widths))
    assert two - one == added


def test_the_official_model_by_its_shapes(capsys):
    document, text = run(capsys, "--official")
    flops = {stage: row["flop"] / 1e9 for stage, row in document["stages"].items()}
    assert flops == pytest.approx({"encode": 1040, "transformer": 16553, "decode": 2462}, rel=2e-3)
    assert document["tile"] == 512
    assert document["parameters"]["adapters"] / 1e6 > 1
    assert "seconds" in text
    assert document["peak_memory_bytes"] is None


def test_scale_by_scale_costs_what_the_cache_leaves(capsys):
    once, _ = run(capsys, "--count-only")
    steps, _ = run(capsys, "--count-only", "--multi-step")
    one, other = (d["stages"]["transformer"]["flop"] for d in (once, steps))
    # The same total number of tokens, but no scale attends to finer ones.
    assert 0.5 * one < other < one
    assert once["stages"]["encode"] == steps["stages"]["encode"]


def test_other_tiles_and_wrong_usage(capsys):
    small, _ = run(capsys, "--count-only", "--pixel-class", "0.06M")
    assert small["tile"] == 64
    assert main(["profile", "--official", "--model", "x"]) == 2
    assert "leave out --model" in capsys.readouterr().err


def test_adapters_are_what_trains():
    with torch.device("meta"):
        counted = count_parameters(INFINITY_VAE_D32, VARESTORER_2B)
        none = count_parameters(INFINITY_VAE_D32, VARESTORER_2B, rank=0)
    assert none.adapters == 0
    assert counted.total - none.total == counted.adapters > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cleaner", "x", "--count-only"], "--cleaner has no effect: one tile"),
        (["--tile-batch", "2"], "--tile-batch has no effect: one tile"),
        (["--official", "--device", "cuda", "--repeats", "7"], "no effect with --official"),
        (["--count-only", "--repeats", "9"], "--repeats has no effect with --count-only"),
        (["--count-only", "--dtype", "fp32"], "--dtype has no effect with --count-only"),
    ],
)
def test_options_without_effect_are_refused(capsys, options, words):
    assert main(["profile", *options]) == 2
    assert words in capsys.readouterr().err


def test_given_adapters_are_what_trains(capsys):
    document, text = run(
        capsys, "--count-only", "--adapter", "rain", "--adapter", "motion_blur:0.5"
    )
    sizes = [read_checkpoint(asset_path(adapter_file(n)))[0] for n in ("rain", "motion_blur")]
    count = sum(tensor.numel() for tensors in sizes for tensor in tensors.values())
    assert document["parameters"]["adapters"] == count
    assert f"trainable {count / 1e6:.2f} M (the adapters)" in text
    assert f"| tiny_transformer | {count / 1e6:.1f} |" in text


def test_adapters_of_other_programs_and_inside_models_are_counted(
    tmp_path, capsys, make_transformer
):
    model = make_transformer(lora_rank=2)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    inside = {name: value for name, value in state.items() if ".lora_" in name}
    count = sum(value.numel() for value in inside.values())
    save_safetensors(state, tmp_path / "model.safetensors", kind="transformer", config=model.config)
    document, _ = run(capsys, "--count-only", "--adapter", str(tmp_path / "model.safetensors"))
    assert document["parameters"]["adapters"] == count
    renamed = {
        "base_model.model."
        + name.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): value
        for name, value in inside.items()
    }
    save_file(renamed, tmp_path / "peft.safetensors")
    document, _ = run(capsys, "--count-only", "--adapter", str(tmp_path / "peft.safetensors"))
    assert document["parameters"]["adapters"] == count


def test_the_device_that_is_timed_is_waited_for(monkeypatch):
    waited = []
    monkeypatch.setattr("torch.cuda.synchronize", waited.append)
    cost._seconds(lambda: None, "cuda:1", 1)
    assert waited == [torch.device("cuda:1")] * 2


def test_a_model_is_no_adapter(capsys):
    model = str(asset_path(TINY_TRANSFORMER))
    assert main(["profile", "--count-only", "--adapter", model]) == 1
    assert "expected an adapter" in capsys.readouterr().err
