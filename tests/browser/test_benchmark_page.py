"""The page of `varestorer benchmark` in a browser: choosing methods, and moving the border with the keys."""

import json

import numpy as np
import pytest
from PIL import Image

from varestorer_core.cli.main import main

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, tmp_path, capsys):
    colours = {"HQ": (200, 200, 200), "red": (200, 0, 0), "green": (0, 200, 0)}
    for folder, colour in colours.items():
        (tmp_path / folder).mkdir()
        pixels = np.full((64, 96, 3), colour, np.uint8)
        pixels[::8] //= 2
        Image.fromarray(pixels).save(tmp_path / folder / "<b>one.png")
    methods = [str(tmp_path / name) for name in ("red", "green")]
    out = tmp_path / "out"
    assert main(["benchmark", *methods, "--reference", str(tmp_path / "HQ"), "-o", str(out)]) == 0
    json.loads(capsys.readouterr().out.splitlines()[-1])
    opened = browser.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("request", lambda r: r.url.startswith("http") and opened.problems.append(r.url))
    opened.goto((out / "index.html").as_uri())
    yield opened
    assert not opened.problems
    opened.close()


def colour_at(page, share):
    """Return which of red and green a place of the picture shows, by its own pixels."""
    box = page.locator(".pair").bounding_box()
    x = box["x"] + share * box["width"]
    clip = {"x": x, "y": box["y"] + box["height"] / 2, "width": 2, "height": 2}
    content = page.screenshot(clip=clip)
    import io

    with Image.open(io.BytesIO(content)) as image:
        red, green, _ = image.convert("RGB").getpixel((0, 0))
    return "red" if red > green + 50 else "green" if green > red + 50 else "grey"


def test_the_border_follows_the_arrow_keys(page):
    left, right = page.locator("select").all()
    left.select_option(label="red")
    right.select_option(label="green")
    assert (colour_at(page, 0.25), colour_at(page, 0.75)) == ("red", "green")
    slider = page.locator("input[type=range]")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "90"
    assert colour_at(page, 0.75) == "red"
    for _ in range(80):
        page.keyboard.press("ArrowLeft")
    assert slider.input_value() == "10"
    assert colour_at(page, 0.25) == "green"


def test_any_two_views_and_their_values(page):
    left, right = page.locator("select").all()
    assert [o.inner_text() for o in right.locator("option").all()] == ["red", "green", "reference"]
    right.select_option(label="reference")
    assert colour_at(page, 0.75) == "grey"
    left.select_option(label="green")
    assert "PSNR (Y)" in page.locator(".values").first.inner_text()
    assert page.locator("figcaption").inner_text() == "<b>one"
    assert page.locator("tbody tr").count() == 2
