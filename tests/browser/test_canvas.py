"""Finding our nodes on the canvas, and being told what is wrong."""

import pytest

pytestmark = pytest.mark.browser

MISSING = "'gone.safetensors' is not in models/{}. Put it there"


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


def test_every_node_is_dragged_in_from_the_library(canvas, our_nodes):
    for name, display_name in our_nodes.items():
        canvas.drag_in(display_name)
        assert canvas.node_types() == [name]
    assert not canvas.errors_beyond_the_drag


def test_a_missing_model_is_explained_in_our_words(canvas, workflow_files):
    canvas.open_template(workflow_files.STEPS)
    canvas.choose("VARestorerLoadVAE", "gone.safetensors")
    canvas.run()
    canvas.read_error(MISSING.format("vae"))


def test_a_missing_model_is_explained_where_the_rest_of_the_workflow_runs(canvas, workflow_files):
    canvas.open_template(workflow_files.REGION)
    canvas.choose("VARestorerLoadModel", "gone.safetensors")
    canvas.run()
    canvas.read_error(MISSING.format("diffusion_models"))
    assert not canvas.errors
