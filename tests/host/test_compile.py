"""The loader's `compile` on a CPU: the same picture, apart from rounding."""

import shutil

import numpy as np
import pytest

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(shutil.which, ("c++", "g++", "clang++"))),
        reason="torch.compile needs a C++ compiler on a CPU; none was found",
    ),
]


def test_a_compiled_model_restores_the_same(host):
    results = []
    for compiling in (False, True):
        prompt = host.whole(["test", 0], upscale=1.0)
        prompt["test"] = {"class_type": "TestPicture", "inputs": {"kind": "gradient"}}
        prompt["model"]["inputs"]["compile"] = compiling
        results.append(host.arrays(host.run(prompt))["keep"])
    assert np.abs(results[0] - results[1]).max() <= 2 / 255
    assert "BackendCompilerFailed" not in host.log
