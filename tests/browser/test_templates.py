"""Every workflow of the pack opens from the host's list of templates, runs, and shows its picture."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

WORKFLOWS = sorted(path.stem for path in (Path(__file__).parents[2] / "workflows").glob("*.json"))


# By scope, so that both renderers follow each other and the second takes the pictures from the cache.
@pytest.mark.parametrize("name", WORKFLOWS, scope="module")
def test_opens_runs_and_shows_its_picture(canvas, name):
    canvas.open_template(name)
    assert not canvas.unknown_nodes()
    missing = canvas.missing_files()
    if missing:
        # It needs weights that do not come with the pack: it loads all the same, and names them.
        assert not canvas.errors
        assert missing[0] in canvas.refusal()
    else:
        canvas.run()
        canvas.wait_for_pictures()
        assert not canvas.errors
