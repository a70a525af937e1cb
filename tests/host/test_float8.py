"""Weights in float8: what is stored in it, and what pictures they give. Adapters on top: `test_adapter.py`."""

import ast
import re

import numpy as np
import pytest

pytestmark = pytest.mark.host

FLOAT8 = "fp8_e4m3fn"


def prompt(host, weights: str = FLOAT8) -> dict:
    made = host.whole(upscale=1.0)
    made["model"]["inputs"]["weight_dtype"] = weights
    return made


def pixels(host, made: dict) -> np.ndarray:
    return host.arrays(host.run(made))["keep"]


def test_only_the_large_matrices_are_in_float8(host):
    made = prompt(host)
    made["count"] = {"class_type": "TestWeights", "inputs": {"model": ["model", 0]}}
    made["restore"]["inputs"]["model"] = ["count", 0]
    host.run(made)
    sizes, total = re.findall(r"TestWeights: (\{.*\}), (\d+) in all", host.log)[-1]
    sizes = ast.literal_eval(sizes)
    assert set(sizes) == {"matrices in float8_e4m3fn", "others in float32"}
    assert sum(sizes.values()) == int(total)  # what the host's memory manager reckons with


def test_pictures_are_close_to_those_of_wide_weights(host):
    narrow, wide = (pixels(host, prompt(host, name)) for name in (FLOAT8, "fp32"))
    assert not np.array_equal(narrow, wide)
    assert np.square(narrow - wide).mean() < 1e-5  # 50 dB


def test_weights_off_the_device_give_the_same_pixels(host):
    made = prompt(host)
    inputs = {"model": ["model", 0], "vae": ["vae", 0], "share": 0.0}
    made["offload"] = {"class_type": "TestOffload", "inputs": inputs}
    made["restore"]["inputs"].update(model=["offload", 0], vae=["offload", 1])
    assert np.array_equal(pixels(host, made), pixels(host, prompt(host)))


def test_the_multi_step_teacher_runs(host):
    made = prompt(host)
    settings = {"ratio": "1:1", "seed": 0, "cfg": 3.0, "tau": 0.5, "top_p": 0.97, "batch_size": 1}
    inputs = {"model": ["model", 0], **settings}
    made["make"] = {"class_type": "VARestorerGenerate", "inputs": inputs}
    inputs = {"samples": ["make", 0], "vae": ["vae", 0]}
    made["restore"] = {"class_type": "VAEDecode", "inputs": inputs}
    assert np.isfinite(pixels(host, made)).all()
