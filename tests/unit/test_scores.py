"""Scores of pictures and sets, and the photographs for evaluation."""

import json
import math

import pytest
import torch

from varestorer_core.errors import ImageError, VARestorerError
from varestorer_core.evaluate import (
    SCIKIT_IMAGE,
    Scores,
    cut_square,
    difference,
    mean_scores,
    scikit_image_photographs,
    score,
)
from varestorer_core.metrics import gmsd, gradient_energy, ms_ssim, psnr, ssim
from varestorer_core.pictures import read_picture


def test_score_is_all_metrics():
    original, picture = torch.rand(2, 3, 24, 30, dtype=torch.float64)
    values = score(picture, original)
    for metric in (psnr, ssim, gmsd, ms_ssim):
        assert getattr(values, metric.__name__) == metric(picture, original)
    assert values.gradient_energy == gradient_energy(picture) / gradient_energy(original)


def test_flat_and_equal_pictures():
    flat = torch.full((3, 20, 20), 0.5)
    values = score(flat, flat)
    assert values.psnr == math.inf
    assert values.gradient_energy == 1
    assert score(torch.rand(3, 20, 20), flat).gradient_energy == math.inf
    assert json.loads(json.dumps(values.as_json(), allow_nan=False))["psnr"] is None


def test_means_and_differences():
    first = [Scores(20.0, 0.5, 0.2, 0.7, 0.1), Scores(24.0, 0.7, 0.1, 0.9, 0.3)]
    second = [Scores(19.0, 0.5, 0.1, 0.7, 0.1), Scores(21.0, 0.5, 0.1, 0.9, 0.1)]
    assert mean_scores(first).psnr == 22
    assert mean_scores(first).gradient_energy == pytest.approx(0.2)
    mean, error = difference(first, second)
    assert mean.psnr == 2
    assert error.psnr == pytest.approx(1)  # of 1 and 3: deviation sqrt(2), over sqrt(2)
    assert mean.gmsd == pytest.approx(0.05)
    assert math.isnan(difference(first[:1], second[:1])[1].psnr)


def test_cut_square_averages_and_centres():
    wide = torch.zeros(3, 8, 20)
    wide[:, :, 8:12] = 1.0
    square = cut_square(wide, 4)
    assert square.shape == (3, 4, 4)
    assert torch.equal(square[0, 0], torch.tensor([0.0, 1.0, 1.0, 0.0]))
    assert torch.equal(cut_square(wide, 8), wide[:, :, 6:14])
    assert cut_square(torch.rand(3, 451, 300), 256).shape == (3, 256, 256)
    with pytest.raises(ImageError, match="at least 9 x 9 pixels, got 20 x 8"):
        cut_square(wide, 9)


def test_photographs_of_scikit_image():
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    paths, missing = scikit_image_photographs()
    assert len(paths) + len(missing) == len(SCIKIT_IMAGE) >= 8
    assert {path.name for path in paths} | set(missing) == set(SCIKIT_IMAGE)
    assert min(read_picture(paths[0]).size) >= 256


class Spec:
    """Location of a package."""

    def __init__(self, folder):
        self.submodule_search_locations = [str(folder)]


def test_scikit_image_that_lacks_photographs(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: Spec(tmp_path))
    with pytest.raises(VARestorerError, match="comes without its photographs"):
        scikit_image_photographs()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coffee.png").touch()
    paths, missing = scikit_image_photographs()
    assert [path.name for path in paths] == ["coffee.png"]
    assert len(missing) == len(SCIKIT_IMAGE) - 1


def test_no_scikit_image(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(VARestorerError, match="pip install scikit-image"):
        scikit_image_photographs()
