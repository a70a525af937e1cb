"""mkdocs hook: copy the thumbnails of workflows, which are outside of docs/, into the site.

docs/workflows.md shows `../workflows/NAME.jpg`: on GitHub that is the file in the repository, on the site the copy.
"""

import shutil
from pathlib import Path
from typing import Any

WORKFLOWS = Path(__file__).parents[1] / "workflows"


def on_post_build(config: Any, **_: Any) -> None:
    """Copy all thumbnails to the folder that the page's relative URLs refer to."""
    target = Path(config["site_dir"]) / WORKFLOWS.name
    target.mkdir(exist_ok=True)
    for thumbnail in WORKFLOWS.glob("*.jpg"):
        shutil.copy(thumbnail, target)
