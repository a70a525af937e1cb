"""The loader's `compile` on a CPU: the same picture apart from rounding, of three compiled networks."""

import os
import shutil

import numpy as np
import pytest

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which(os.environ.get("CXX", "g++")),
        reason="torch.compile needs a C++ compiler on a CPU; none was found",
    ),
]


def test_a_compiled_model_restores_the_same(host):
    results = []
    for compiling in (False, True):
        prompt = host.whole(["test", 0], upscale=1.0)
        prompt["test"] = {"class_type": "TestPicture", "inputs": {"kind": "gradient"}}
        prompt["model"]["inputs"]["compile"] = compiling
        prompt["look"] = {
            "class_type": "TestCompiled",
            "inputs": {"vae": ["vae", 0], "image": ["restore", 0]},
        }
        prompt["keep"]["inputs"]["image"] = ["look", 0]
        results.append(host.arrays(host.run(prompt))["keep"])
    assert np.abs(results[0] - results[1]).max() <= 2 / 255
    assert "torch.compile failed" not in host.log
    assert host.log.index("TestCompiled: []") < host.log.index(
        "TestCompiled: ['encoder', 'decoder']"
    )
