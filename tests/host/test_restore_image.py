"""The all-in-one node: the same pixels as the chain, masks, alpha, batches and lists."""

import uuid

import numpy as np
import pytest

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 40, 56


def picture(kind: str) -> dict:
    return {"odd": {"class_type": "TestPicture", "inputs": {"kind": kind}}}


def whole(host, kind: str = "gradient", mask: tuple | None = None, **settings) -> dict:
    prompt = {**host.whole(image=["odd", 0], **settings), **picture(kind)}
    if mask is not None:
        sides = dict(zip(("top", "bottom", "left", "right"), mask, strict=True))
        prompt["mask"] = {"class_type": "TestMask", "inputs": sides}
        prompt["restore"]["inputs"]["mask"] = ["mask", 0]
    return prompt


def run(host, prompt: dict) -> np.ndarray:
    return host.arrays(host.run(prompt))["keep"]


def resized_source(host, upscale: float) -> np.ndarray:
    prompt = {**host.chain(image=["odd", 0], upscale=upscale), **picture("gradient")}
    prompt["keep"]["inputs"]["image"] = ["encode", 1]
    return run(host, prompt)


@pytest.mark.parametrize(
    "settings",
    [
        {"upscale": 1.0},
        {"upscale": 3.3, "overlap": 32, "seed": 5, "detail": 0.7, "color_match": "wavelet"},
        {"upscale": 0.5, "fidelity": 3.0, "color_match": "lab", "tile_batch": 2},
    ],
)
def test_same_pixels_as_the_three_nodes(host, settings):
    chain = {**host.chain(image=["odd", 0], **settings), **picture("batch")}
    assert np.array_equal(run(host, whole(host, "batch", **settings)), run(host, chain))


@pytest.mark.parametrize(
    ("kind", "upscale", "shape"),
    [
        ("grey", 3.3, (1, 132, 185, 3)),
        ("rgba", 0.25, (1, 10, 14, 4)),
        ("rgba", 2.0, (1, 80, 112, 4)),
        ("pixel", 8.0, (1, 8, 8, 3)),
        ("batch", 1.0, (3, HEIGHT, WIDTH, 3)),
    ],
)
def test_size_is_exact_and_alpha_stays(host, kind, upscale, shape):
    image = run(host, whole(host, kind, upscale=upscale))
    assert image.shape == shape
    assert 0 <= image.min() <= image.max() <= 1
    if shape[-1] == 4:
        assert np.all(image[..., 3] == 1)
        plain = run(host, whole(host, "gradient", upscale=upscale))
        assert np.array_equal(image[..., :3], plain)


def test_a_list_of_sizes_goes_through_one_by_one(host):
    prompt = host.whole(image=["list", 0], upscale=1.5)
    prompt["list"] = {"class_type": "TestPictureList", "inputs": {}}
    kept = host.lists(host.run(prompt))["keep"]
    assert [image.shape for image in kept] == [(1, 60, 84, 3), (1, 16, 34, 3), (1, 30, 84, 3)]


def test_a_mask_restores_only_there(host):
    upscale, feather = 4.0, 12
    prompt = whole(host, mask=(0, 12, 0, 14), upscale=upscale, feather=feather)
    image, source = run(host, prompt), resized_source(host, upscale)
    everywhere = run(host, whole(host, upscale=upscale))
    edge = 12 * 4, 14 * 4
    reach = feather + 4  # the mask's own pixels are 4 wide and interpolated
    assert np.array_equal(image[:, edge[0] + reach :], source[:, edge[0] + reach :])
    assert np.array_equal(image[:, :, edge[1] + reach :], source[:, :, edge[1] + reach :])
    inside = slice(0, edge[0] - reach), slice(0, edge[1] - reach)
    assert np.abs(image[0][inside] - everywhere[0][inside]).max() < 1e-5
    assert not np.array_equal(image, source)


def steps(host, prompt: dict) -> int:
    """Run a prompt and return the length of the all-in-one node's progress bar."""
    client = uuid.uuid4().hex
    stream = host.events(client)
    prompt_id = host.queue(prompt, client)
    total = 0
    for kind, data in stream:
        if kind == "progress" and data["node"] == "restore":
            total = data["max"]
        if kind in ("execution_success", "execution_error") and data["prompt_id"] == prompt_id:
            break
    stream.close()
    return total


def test_tiles_that_the_mask_does_not_touch_are_not_computed(host):
    settings = {"upscale": 6.0, "detail": 0.1, "overlap": 32}
    seed = uuid.uuid4().int % 2**32  # so that nothing comes from the cache
    everywhere = steps(host, whole(host, seed=seed, **settings))
    corner = steps(host, whole(host, mask=(0, 4, 0, 4), feather=0, seed=seed, **settings))
    assert everywhere >= 3 * 6
    assert corner == 3


def test_an_empty_mask_returns_the_resized_source_and_says_so(host):
    prompt = whole(host, mask=(0, 0, 0, 0), upscale=2.0, color_match="lab")
    record = host.run(prompt)
    assert np.array_equal(host.arrays(record)["keep"], resized_source(host, 2.0))
    sentence = "The mask is empty: nothing was restored."
    assert record["outputs"]["restore"]["varestorer_notice"] == [sentence]
    assert sentence in host.log


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ({"size_by": "factor", "upscale": 1.5, "megapixels": 9.0}, (60, 84)),
        ({"size_by": "megapixels", "megapixels": 0.01}, (85, 118)),
        ({"size_by": "longer side", "longer_side": 100}, (71, 100)),
    ],
    ids=lambda value: value.get("size_by") if isinstance(value, dict) else None,
)
def test_the_size_is_what_size_by_says(host, size, shape):
    """In the all-in-one node and in the first of the three stages."""
    assert run(host, whole(host, **size)).shape == (1, *shape, 3)
    prompt = {**host.chain(image=["odd", 0]), **picture("gradient")}
    prompt["encode"]["inputs"].update(size)
    prompt["keep"]["inputs"]["image"] = ["encode", 1]
    assert run(host, prompt).shape == (1, *shape, 3)


def test_a_size_that_is_too_far_away_is_refused_in_a_sentence(host):
    with pytest.raises(
        host.Error,
        match=r"would be enlarged 17\.9 times, but the factor must be between 0\.25 and 8",
    ) as caught:
        run(host, whole(host, size_by="longer side", longer_side=1000))
    (message,) = caught.value.messages
    assert "\n" not in message


def test_a_foreign_vae_is_refused_in_one_sentence(host):
    prompt = whole(host)
    prompt["vae"] = {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}}
    with pytest.raises(host.Error, match=r"Load VARestorer VAE\.$"):
        host.run(prompt)
