"""The scale alpha / rank in the configuration of PEFT and diffusers: applied, or rejected with one sentence."""

import json
from dataclasses import replace

import pytest
from adapter_spellings import respelled
from adapters import assert_same_pairs, factors, load, refusal

from varestorer_core.lora.scaling import scaling_of


def config(**values):
    return json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2, **values})


DIFFUSERS = json.dumps({"transformer.r": 2, "transformer.lora_alpha": 6})


@pytest.mark.parametrize(
    ("key", "text", "scale"),
    [
        ("adapter_config.json", config(lora_alpha=2), 1),
        ("adapter_config.json", config(lora_alpha=8), 4),
        ("adapter_config.json", config(lora_alpha=2, use_rslora=True), 2**0.5),
        ("adapter_config.json", config(alpha_pattern={"proj": 4}), {"proj": 2, "": 1}),
        ("adapter_config.json", config(alpha_pattern={r"blocks\.1\.sa\.proj": 6}), {"1.sa.proj": 3, "": 1}),
        (
            "adapter_config.json",
            config(alpha_pattern={"^blocks.1.sa.proj$|0.sa.proj": 6, "proj": 4, "1.sa.proj": 8, "roj": 9}),
            {"1.sa.proj": 3, "0.sa.proj": 3, "proj": 2, "": 1},
        ),
        ("adapter_config.json", config(alpha_pattern={"^sa.proj": 6}), 1),
        ("lora_adapter_metadata", DIFFUSERS, 3),
    ],
)  # fmt: skip
def test_the_scale_that_peft_and_diffusers_tell(key, text, scale):
    scales = scale if isinstance(scale, dict) else {"": scale}
    state = factors(rank=2)
    wanted = {
        name: value * next(s for end, s in scales.items() if name.rsplit(".lora_", 1)[0].endswith(end))
        if "lora_up" in name
        else value
        for name, value in state.items()
    }  # fmt: skip
    assert_same_pairs(load(respelled(state, "PEFT"), {key: text}), load(wanted))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "configuration is damaged"),
        ("[" * 10**5, "nested too deeply"),
        ("[]", "configuration is damaged"),
        (config(lora_alpha="x"), "configuration is damaged"),
        (config(lora_alpha=float("nan")), "configuration is damaged"),
        (config(alpha_pattern=["(", 1]), "configuration is damaged"),
        (config(alpha_pattern={"(": 1}), "names modules by '('"),
        (config(alpha_pattern={"a|(a+)+b": 1}), "names modules by '(a+)+b'"),
        (config(alpha_pattern={r"blocks\.\d\.sa\.proj": 1}), "Write the names of the modules in full"),
        (config(alpha_pattern={"a" * 201: 1}), "names modules by"),
        (config(alpha_pattern={str(i): 1 for i in range(5001)}), "more than 5,000 names"),
        (config(alpha_pattern={"|".join(["a"] * 5001): 1}), "more than 5,000 names"),
        (config(padding="a" * (1 << 20)), "characters"),
        (config(use_dora=True), "DORA"),
        (config(peft_type="LOHA"), "LOHA"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_be_used_is_named(text, words):
    assert words in refusal(respelled(factors(), "PEFT"), {"adapter_config.json": text})


def test_finding_an_alpha_needs_no_pass_over_the_patterns():
    """Otherwise a small configuration would take minutes, as the product of modules and patterns."""
    names = {f"{index}.proj": index for index in range(5000)}
    alphas = scaling_of({"adapter_config.json": config(alpha_pattern=names)}).alphas
    looked_up = []

    class Counting(dict):
        def __contains__(self, name):
            looked_up.append(name)
            return super().__contains__(name)

    alphas = replace(alphas, ends=Counting(alphas.ends))
    assert alphas.of("blocks.4321.proj") == 4321
    assert looked_up == ["proj", "4321.proj", "blocks.4321.proj"]
    looked_up.clear()
    assert alphas.of("." * 10**6) is None
    assert len(looked_up) < 300


def test_a_peft_adapter_that_tells_no_scale_is_said(caplog):
    load(respelled(factors(), "PEFT"))
    assert "adapter_config.json" in caplog.text
    caplog.clear()
    load(respelled(factors(), "PEFT"), {"adapter_config.json": config()})
    load(respelled(factors(), "ComfyUI"))
    assert not caplog.text
