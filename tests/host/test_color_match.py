"""The colour match node: sizes, batches, alpha, and what it refuses."""

import numpy as np
import pytest

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 40, 56


def prompt(image: str, source: str, method: str = "adain") -> dict:
    def picture(kind):
        return {"class_type": "TestPicture", "inputs": {"kind": kind}}

    inputs = {"image": ["image", 0], "source": ["source", 0], "method": method}
    return {
        "image": picture(image),
        "source": picture(source),
        "match": {"class_type": "VARestorerColorMatch", "inputs": inputs},
        "keep": {"class_type": "TestKeep", "inputs": {"image": ["match", 0]}},
        "before": {"class_type": "TestKeep", "inputs": {"image": ["image", 0]}},
    }


def means(image: np.ndarray) -> np.ndarray:
    return image[..., :3].mean(axis=(1, 2))


@pytest.mark.parametrize("method", ["wavelet", "adain", "lab"])
def test_the_colours_are_those_of_the_source(host, method):
    arrays = host.arrays(host.run(prompt("gradient", "grey", method)))
    grey = host.arrays(host.run(prompt("grey", "grey", "none")))["keep"]
    before, after = arrays["before"], arrays["keep"]
    assert after.shape == before.shape
    far = np.abs(means(before) - means(grey)).max()
    assert np.abs(means(after) - means(grey)).max() < max(0.02, far / 4)


def test_none_changes_nothing(host):
    arrays = host.arrays(host.run(prompt("gradient", "grey", "none")))
    assert np.array_equal(arrays["keep"], arrays["before"])


def test_one_source_serves_a_batch_and_any_size_is_resized(host):
    batch = host.arrays(host.run(prompt("batch", "strip")))["keep"]
    assert batch.shape == (3, HEIGHT, WIDTH, 3)
    alone = host.arrays(host.run(prompt("gradient", "strip")))["keep"]
    assert np.array_equal(batch[:1], alone)


def test_a_source_each(host):
    arrays = host.arrays(host.run(prompt("batch", "batch", "wavelet")))
    assert np.abs(arrays["keep"] - arrays["before"]).max() < 1e-6


def test_alpha_stays(host):
    assert host.arrays(host.run(prompt("rgba", "pixel")))["keep"].shape[-1] == 4


@pytest.mark.parametrize(
    ("image", "source", "word"),
    [("gradient", "batch", "one for each"), ("empty", "grey", "empty"), ("grey", "nan", "NaN")],
)
def test_what_does_not_go_together_is_refused(host, image, source, word):
    with pytest.raises(host.Error, match=word) as caught:
        host.run(prompt(image, source))
    assert "\n" not in caught.value.messages[0]
