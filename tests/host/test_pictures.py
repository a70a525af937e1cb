"""Odd pictures and latents through the whole chain: restored, or refused in one clear sentence."""

import numpy as np
import pytest

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 40, 56


def chain_of(host, kind: str, **settings) -> dict:
    prompt = host.chain(image=["odd", 0], **settings)
    prompt["odd"] = {"class_type": "TestPicture", "inputs": {"kind": kind}}
    return prompt


def refusal(host, prompt: dict) -> str:
    with pytest.raises(host.Error) as caught:
        host.run(prompt)
    (message,) = caught.value.messages
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("kind", "upscale", "shape"),
    [
        ("gradient", 1.0, (1, HEIGHT, WIDTH)),
        ("gradient", 0.25, (1, 10, 14)),
        ("gradient", 3.3, (1, 132, 185)),
        ("grey", 1.0, (1, HEIGHT, WIDTH)),
        ("rgba", 1.0, (1, HEIGHT, WIDTH)),
        ("pixel", 1.0, (1, 1, 1)),
        ("pixel", 8.0, (1, 8, 8)),
        ("strip", 2.0, (1, 2, 112)),
        ("batch", 2.0, (3, 80, 112)),
    ],
)
def test_any_picture_comes_out_in_the_exact_size(host, kind, upscale, shape):
    record = host.run(chain_of(host, kind, upscale=upscale, color_match="wavelet"))
    image = host.arrays(record)["keep"]
    assert image.shape == (*shape, 3)
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= 1


def test_the_prepared_output_is_the_resized_picture(host):
    prompt = chain_of(host, "gradient", upscale=2.0)
    prompt["keep"]["inputs"]["image"] = ["encode", 1]
    prepared = host.arrays(host.run(prompt))["keep"]
    assert prepared.shape == (1, 2 * HEIGHT, 2 * WIDTH, 3)
    # The gradient's columns grow from left to right in green, its rows from top to bottom in red.
    assert np.all(np.diff(prepared[0, 0, 4:-4, 1]) > 0)
    assert np.all(np.diff(prepared[0, 4:-4, 0, 0]) > 0)


def test_alpha_changes_nothing_about_the_colours(host):
    runs = [host.arrays(host.run(chain_of(host, kind)))["keep"] for kind in ("gradient", "rgba")]
    assert np.array_equal(*runs)


def test_seed_matters_with_detail_and_only_then(host):
    def run(**settings):
        return host.arrays(host.run(chain_of(host, "gradient", **settings)))["keep"]

    assert np.array_equal(run(seed=1, detail=0.0), run(seed=2, detail=0.0))
    assert np.array_equal(run(seed=1, detail=1.0), run(seed=1, detail=1.0))
    assert not np.array_equal(run(seed=1, detail=1.0), run(seed=2, detail=1.0))


def test_full_fidelity_returns_the_input_as_the_tokenizer_sees_it(host):
    """Independent of the model and its noise: two seeds then agree, unlike at 0."""
    kept = [
        host.arrays(host.run(chain_of(host, "gradient", seed=seed, detail=1.0, fidelity=20.0)))
        for seed in (1, 2)
    ]
    assert np.abs(kept[0]["keep"] - kept[1]["keep"]).mean() < 1e-3


@pytest.mark.parametrize("weight_dtype", ["bf16", "fp16", "fp32", "fp8_e4m3fn"])
def test_every_weight_type_runs(host, weight_dtype):
    image = host.arrays(host.run(chain_of(host, "gradient", weight_dtype=weight_dtype)))["keep"]
    assert np.isfinite(image).all()


@pytest.mark.parametrize(("kind", "word"), [("nan", "NaN"), ("empty", "empty")])
def test_a_broken_picture_is_refused(host, kind, word):
    assert word in refusal(host, chain_of(host, kind))


def test_a_broken_latent_is_refused(host):
    prompt = chain_of(host, "gradient")
    prompt["spoil"] = {"class_type": "TestBreakLatent", "inputs": {"samples": ["restore", 0]}}
    prompt["decode"]["inputs"]["samples"] = ["spoil", 0]
    assert "NaN" in refusal(host, prompt)


@pytest.mark.parametrize("upscale", [0.0, -1.0, 9.0])
def test_an_upscale_out_of_range_is_refused_before_anything_runs(host, upscale):
    assert "upscale" in refusal(host, chain_of(host, "gradient", upscale=upscale))


def test_a_tile_size_that_the_model_was_not_made_for_is_refused(host):
    message = refusal(host, chain_of(host, "gradient", tile_size="256"))
    assert "tiles of 64 pixels" in message
    assert "256" in message


def test_a_tile_size_that_the_vae_cannot_have_is_refused_with_the_one_that_it_has(host):
    message = refusal(host, chain_of(host, "gradient", tile_size="512"))
    assert message.endswith("Choose auto: 64, the size that the VAE was trained on.")
    assert "128" not in message
