"""On a real picture `fidelity` moves the result towards the input, step by step."""

from itertools import pairwise

import pytest

from varestorer_core.assets import DEMO_LQ, asset_path
from varestorer_core.metrics import psnr
from varestorer_core.pictures import read_picture
from varestorer_core.resize import resize_lanczos

FIDELITIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


@pytest.fixture(scope="module")
def near(bundled):
    """Return a function of `detail`: the PSNR at every fidelity, in dB, against the input as the tokenizer reads
    it, which is what `fidelity` pulls to, and against the enlarged input."""
    photograph = read_picture(asset_path(DEMO_LQ)).rgb[:, 32:96, 32:96].contiguous()
    height, width = photograph.shape[1:]
    source = resize_lanczos(photograph, (2 * height, 2 * width))
    (read,) = bundled.reconstruct([photograph], upscale=2.0, color_match="none")

    def measure(detail):
        results = [
            # Without colour matching, which pulls towards the input by itself.
            bundled.restore(
                [photograph], upscale=2.0, detail=detail, fidelity=f, color_match="none"
            )[0]
            for f in FIDELITIES
        ]
        return [[float(psnr(result, aim)) for result in results] for aim in (read, source)]

    return measure


def test_sampled_results_come_nearer_with_every_step(near):
    read, source = near(1.0)
    assert all(low < high for low, high in pairwise(read)), read
    # The tokenizer's encoder sharpens its input, so the last bits may move the result slightly away again.
    assert all(low < high + 0.1 for low, high in pairwise(source)), source
    assert source[-1] > source[0] + 3


def test_the_most_likely_result_never_goes_away(near):
    read, _ = near(0.0)
    assert all(low <= high for low, high in pairwise(read)), read
    # With the same bits, only float32 rounding remains.
    assert read[-1] > 100
    assert read[0] < read[-1]
