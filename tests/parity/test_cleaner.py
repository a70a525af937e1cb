"""The cleaner (spandrel's SwinIR under our padding) to 5e-5."""

import pytest

from varestorer_core.cleaner import load_cleaner


def test_cleaner(goldens, close):
    pytest.importorskip("spandrel", reason="the cleaner needs spandrel, which is not installed")
    cleaner = load_cleaner(dict(goldens.load("weights_swinir")), name="weights_swinir")
    for match, expected in goldens.recorded("swinir", r"out\.pm1\.(\d+)x(\d+)"):
        height, width = int(match[1]), int(match[2])
        image = goldens.load("swinir")[f"in.u8.{height}x{width}"]
        cleaned = cleaner(image.permute(2, 0, 1)[None].float() / 255 * 2 - 1)
        # The official network does not crop its padding away; ours does.
        close(match[0], cleaned, expected[..., :height, :width], 5e-5)
