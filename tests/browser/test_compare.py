"""The before/after slider: the host's own where it has one that is drawn, else ours."""

import pytest

pytestmark = pytest.mark.browser

OURS = '[role=slider][aria-label="Before and after"]'
HOSTS = "[data-testid=image-compare-viewport]"
SCORES = "not measured: 1 of 128 x 128 and 1 of 256 x 256 pixels"


@pytest.fixture
def hosts_own(canvas):
    """Whether this host draws a compare view of its own in this renderer."""
    return canvas.vue and canvas.page.evaluate("'ImageCompare' in LiteGraph.registered_node_types")


@pytest.fixture
def view(canvas, hosts_own):
    """The view of a comparison that has run, on the canvas of two pictures and one Compare."""
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
    wait_for_pictures(canvas, HOSTS if hosts_own else OURS)
    canvas.fit()
    return canvas.page.locator(HOSTS if hosts_own else OURS)


def wait_for_pictures(canvas, view: str) -> None:
    canvas.page.wait_for_function(
        f"[...document.querySelectorAll('{view} img')].filter(i => i.naturalWidth > 0).length === 2"
    )


def box_at_rest(view):
    """Return where the view is, once the canvas has stopped moving."""
    view.click(trial=True)  # Playwright waits for elements that move
    return view.bounding_box()


def uncovered(image) -> float:
    """Return how many percent of the width of a picture its clip path shows, from the left."""
    # A right side of 0 is left out, as is one equal to the left.
    sides = image.evaluate("image => image.style.clipPath")[len("inset(") : -1].split()
    return 100 - float((sides[1] if len(sides) > 1 else sides[0]).rstrip("%"))


def test_slider_shows_the_first_picture_left_of_the_pointer(canvas, view, hosts_own):
    box = box_at_rest(view)
    place = canvas.page.evaluate("String(app.graph.nodes.map(node => node.pos))")
    y = box["y"] + box["height"] / 2
    canvas.page.mouse.move(box["x"] + box["width"] / 2, y)
    if not hosts_own:  # the host's follows the pointer, ours is dragged
        canvas.page.mouse.down()
    canvas.page.mouse.move(box["x"] + box["width"] / 4, y, steps=4)
    first = view.get_by_alt_text("Before image" if hosts_own else "a", exact=True)
    assert abs(uncovered(first) - 25) < 1
    if not hosts_own:
        canvas.page.mouse.up()
    # The node stays where it was.
    assert place == canvas.page.evaluate("String(app.graph.nodes.map(node => node.pos))")
    assert not canvas.errors


def test_our_slider_moves_by_key(canvas, view, hosts_own):
    if hosts_own:
        pytest.skip("the host's own view has no keys")
    box_at_rest(view)
    view.press("ArrowRight")
    assert view.get_attribute("aria-valuenow") == "52"
    assert not canvas.errors


def test_one_view_is_shown_and_the_other_is_not(canvas, view, hosts_own):
    assert canvas.page.locator(HOSTS).count() == int(hosts_own)
    assert canvas.page.locator(OURS).filter(visible=True).count() == int(not hosts_own)


def test_says_what_was_measured_and_saves_nothing_of_it(canvas, view):
    canvas.page.get_by_text(SCORES).filter(visible=True).wait_for()
    assert canvas.page.get_by_text(SCORES).filter(visible=True).count() == 1
    saved = canvas.page.evaluate("app.graph.serialize().nodes.at(-1).widgets_values ?? []")
    assert saved == []
