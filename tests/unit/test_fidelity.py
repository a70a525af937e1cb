"""On a real picture `fidelity` moves the result towards the input, step by step."""

from itertools import pairwise

import pytest

from varestorer_core.assets import DEMO_LQ, asset_path
from varestorer_core.evaluate import psnr
from varestorer_core.pictures import read_picture
from varestorer_core.resize import resize_lanczos

FIDELITIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


@pytest.fixture(scope="module")
def near(bundled):
    """Return a function of `detail`: the PSNR against the input at every fidelity, in dB."""
    photograph = read_picture(asset_path(DEMO_LQ)).rgb
    height, width = photograph.shape[1:]
    source = resize_lanczos(photograph, (2 * height, 2 * width))

    def measure(detail):
        results = (
            # Without colour matching, which pulls towards the input by itself.
            bundled.restore([photograph], 2.0, detail=detail, fidelity=f, color_match="none")[0]
            for f in FIDELITIES
        )
        return [float(psnr(result, source)) for result in results]

    return measure


def test_sampled_results_come_nearer_with_every_step(near):
    values = near(1.0)
    assert all(low < high for low, high in pairwise(values)), values


def test_the_most_likely_result_never_goes_away(near):
    """A bit or two may flip the other way: a picture's bits are not independent of each other."""
    values = near(0.0)
    assert all(high > low - 0.02 for low, high in pairwise(values)), values
    assert values[-1] >= values[0]
