"""Two pictures side by side: what is shown, what is measured, and when nothing is."""

import urllib.parse

import pytest

pytestmark = pytest.mark.host


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def compare(host, a, b):
    """Run a comparison of two nodes' pictures; return its outputs, and the pictures (B, H, W, C)."""
    prompt = {
        "a": a,
        "b": b,
        "compare": node("VARestorerCompare", image_a=["a", 0], image_b=["b", 0]),
        "keep_a": node("TestKeep", image=["a", 0]),
        "keep_b": node("TestKeep", image=["b", 0]),
    }
    record = host.run(prompt)
    return record["outputs"]["compare"], host.arrays(record)


def test_shows_both_pictures_and_the_mean_scores(host):
    import torch

    from varestorer_core.metrics import gmsd, psnr, ssim

    batch, picture = node("TestPicture", kind="batch"), node("TestPicture", kind="gradient")
    shown, kept = compare(host, batch, batch)
    assert shown["scores"] == ["PSNR inf dB   SSIM 1.0000   GMSD 0.0000"]
    for saved in (*shown["a_images"], *shown["b_images"]):
        assert host.fetch(f"/view?{urllib.parse.urlencode(saved)}").startswith(b"\x89PNG")

    shown, kept = compare(host, picture, node("ImageInvert", image=["a", 0]))
    pair = [
        torch.from_numpy(kept[name][0]).movedim(-1, 0).double() for name in ("keep_a", "keep_b")
    ]
    decibels, structure, gradients = (metric(*pair) for metric in (psnr, ssim, gmsd))
    assert shown["scores"] == [
        f"PSNR {decibels:.2f} dB   SSIM {structure:.4f}   GMSD {gradients:.4f}"
    ]


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ("gradient", "strip", "pictures of one size, or the original as a third input."),
        ("gradient", "batch", "pictures of one size, or the original as a third input."),
        ("strip", "strip", "pictures of at least 11 x 11 pixels."),
    ],
)
def test_says_what_scores_need_where_there_are_none(host, a, b, reason):
    shown, _ = compare(host, node("TestPicture", kind=a), node("TestPicture", kind=b))
    assert shown["scores"] == [f"Scores need {reason}"]
    assert shown["a_images"]
    assert shown["b_images"]
