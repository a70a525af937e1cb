"""Every workflow of the pack opens from the host's list of templates, runs, and shows its picture.

One tab for all of them, as a user opens one after the other.
"""

import pytest
from workflow_files import BEGINNERS

pytestmark = pytest.mark.browser

# Only the beginner's workflow runs as it is; large results of the others would only take longer.
SMALLER = """() => app.graph.nodes.flatMap(node => node.widgets ?? [])
    .filter(widget => widget.name === 'upscale')
    .forEach(widget => { widget.value = 0.5 })"""


def open_and_look(canvas, name: str) -> None:
    """Open a workflow, and check that all nodes are known and lie beside each other in their groups."""
    canvas.open_template(name)
    assert not canvas.unknown_nodes(), name
    assert not canvas.overlapping_nodes(), name
    assert not canvas.ungrouped_nodes(), name


def run_and_look(canvas, name: str) -> None:
    """Run a workflow, and check that it shows its pictures."""
    assert not canvas.missing_files(), name
    if name != BEGINNERS:
        canvas.page.evaluate(SMALLER)
    canvas.run()
    canvas.wait_for_pictures()
    if not canvas.vue:  # the Nodes 2.0 of 0.8.0 lets Save Image grow with its picture
        assert not canvas.ungrouped_nodes(), name
    assert not canvas.errors, name


def test_what_needs_nothing_runs_and_shows_its_picture(canvas, workflow_files):
    for name in workflow_files.names():
        if name not in workflow_files.NEEDED:
            open_and_look(canvas, name)
            run_and_look(canvas, name)


def test_the_others_name_the_files_that_are_missing(canvas, workflow_files):
    for name, files in workflow_files.NEEDED.items():
        open_and_look(canvas, name)
        assert not canvas.errors, name
        assert sorted(canvas.missing_files()) == sorted(files), name
        reply = canvas.refusal()
        assert all(file in reply for file in files), name
        canvas.close_dialogs()  # what refuses a prompt says so in one
        canvas.errors.clear()  # the browser logs the refusal as an error


# The files come first: the front end asks for the menus when it starts.
def test_with_their_files_the_others_run_too(stand_ins, canvas, workflow_files):
    for name in sorted(set(workflow_files.NEEDED) - workflow_files.WITHOUT_STAND_IN):
        open_and_look(canvas, name)
        for loader in ("VARestorerLoadModel", "VARestorerLoadVAE"):
            canvas.choose(loader, workflow_files.BUNDLED)
        run_and_look(canvas, name)
