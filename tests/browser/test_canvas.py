"""Finding our nodes on the canvas, and being told what is wrong."""

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def our_nodes(host):
    """Display names of our nodes, by id."""
    nodes = host.get("/object_info")
    return {n: info["display_name"] for n, info in nodes.items() if n.startswith("VARestorer")}


def test_every_node_is_found_by_its_name_and_added(canvas, our_nodes):
    for name, display_name in our_nodes.items():
        canvas.add_by_search(display_name)
        assert canvas.node_types() == [name]
    assert not canvas.errors


def test_a_missing_model_is_explained_in_our_words(canvas):
    canvas.open_template("restore_step_by_step")
    canvas.page.evaluate(
        """() => {
            const node = app.graph.nodes.find(n => n.type === 'VARestorerLoadVAE')
            node.widgets[0].value = 'gone.safetensors'
        }"""
    )
    canvas.run()
    canvas.read_error("'gone.safetensors' is not in models/vae. Put it there")
