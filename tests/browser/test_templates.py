"""Every workflow of the pack opens from the host's list of templates, runs, and shows its picture."""

import pytest

pytestmark = pytest.mark.browser


def open_and_look(canvas, name: str) -> None:
    """Open a workflow, and check that all nodes are known and lie beside each other in their groups."""
    canvas.open_template(name)
    assert not canvas.unknown_nodes()
    assert not canvas.overlapping_nodes()
    assert not canvas.ungrouped_nodes()


def test_opens_runs_and_shows_its_picture(canvas, whole):
    open_and_look(canvas, whole)
    assert not canvas.missing_files()
    canvas.run()
    canvas.wait_for_pictures()
    assert not canvas.errors


def test_opens_and_names_the_files_that_are_missing(canvas, workflow_files, needy):
    open_and_look(canvas, needy)
    assert not canvas.errors
    assert sorted(canvas.missing_files()) == sorted(workflow_files.NEEDED[needy])
    reply = canvas.refusal()
    for file in workflow_files.NEEDED[needy]:
        assert file in reply


# The files come first: the front end asks for the menus when it starts.
def test_runs_and_shows_its_picture_with_the_files(stand_ins, canvas, workflow_files, served):
    open_and_look(canvas, served)
    for loader in ("VARestorerLoadModel", "VARestorerLoadVAE"):
        canvas.choose(loader, workflow_files.BUNDLED)
    assert not canvas.missing_files()
    canvas.run()
    canvas.wait_for_pictures()
    assert not canvas.errors
