"""The before/after slider."""

import pytest

pytestmark = pytest.mark.browser

SLIDER = '[role=slider][aria-label="Before and after"]'


@pytest.fixture
def slider(canvas):
    """The slider of a comparison that has run, on the canvas of two pictures and one Compare."""
    canvas.page.evaluate(
        """() => {
            const add = (type, x) => {
                const node = LiteGraph.createNode(type)
                node.pos = [x, 140]
                return app.graph.add(node) ?? node
            }
            const [a, b] = [add('VARestorerExampleImage', 40), add('VARestorerExampleImage', 40)]
            const compare = add('VARestorerCompare', 400)
            b.pos = [40, 320]
            a.widgets[0].value = 'degraded'
            b.widgets[0].value = 'original'
            a.connect(0, compare, 0)
            b.connect(0, compare, 1)
        }"""
    )
    canvas.fit()
    canvas.run()
    canvas.page.wait_for_function(
        f"[...document.querySelectorAll('{SLIDER} img')].filter(i => i.naturalWidth > 0).length === 2"
    )
    return canvas.page.locator(SLIDER)


def box_at_rest(slider):
    """Return where the slider is, once the canvas has stopped moving."""
    slider.click(trial=True)  # Playwright waits for elements that move
    return slider.bounding_box()


def test_slider_moves_by_drag_and_by_key(canvas, slider):
    box = box_at_rest(slider)
    place = canvas.page.evaluate("String(app.graph.nodes.map(node => node.pos))")
    y = box["y"] + box["height"] / 2
    canvas.page.mouse.move(box["x"] + box["width"] / 2, y)
    canvas.page.mouse.down()
    canvas.page.mouse.move(box["x"] + box["width"] / 4, y, steps=4)
    canvas.page.mouse.up()
    assert slider.get_attribute("aria-valuenow") == "25"
    # What lies left of the slider is the first picture, and the node stays where it was.
    left = slider.get_by_alt_text("a").evaluate("image => image.style.clipPath")
    assert round(100 - float(left.split()[1].rstrip("%"))) == 25
    assert place == canvas.page.evaluate("String(app.graph.nodes.map(node => node.pos))")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "27"
    assert not canvas.errors


def test_says_what_was_measured_and_saves_nothing_of_it(canvas, slider):
    canvas.page.get_by_text("not measured: 1 of 128 x 128 and 1 of 256 x 256 pixels").wait_for()
    saved = canvas.page.evaluate("app.graph.serialize().nodes.at(-1).widgets_values ?? []")
    assert saved == []
