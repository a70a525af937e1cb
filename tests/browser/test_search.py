"""Where the all-in-one node stands in ComfyUI's own search, for what people type.

The ranks are a table of docs/nodes.md. `VARESTORER_UPDATE_DOCS=1` writes the column of the host that runs.
"""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

OURS = "VARestorer Restore & Upscale"
DAMAGES = "VARestorer Degrade"
PAGE = Path(__file__).parents[2] / "docs" / "nodes.md"
BEGIN = "<!-- search ranks: written by tests/browser/test_search.py -->\n"
END = "<!-- end of search ranks -->"
NOT_FOUND = "-"

# Words that no node of the host owns: there ours is among the first five.
OWN_WORDS = [
    "super resolution",
    "enhance",
    "restore photo",
    "old photo",
    "image restoration",
    "deblur",
    "unblur",
    "artifact",
    "low quality",
    "enlarge",
]
# Nodes of the host have these in their names, aliases or categories, and may come before ours.
SHARED_WORDS = ["upscale", "denoise", "jpeg", "compression", "face", "SeedVR2", "SUPIR"]
WORDS = ["varestorer", *OWN_WORDS, *SHARED_WORDS]
FIRST = 5


def read_table() -> dict[str, dict[str, str]]:
    """Return the stored ranks: {version of the host: {word: rank}}."""
    rows = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row]
    versions = cells[0][1:]
    return {
        version: {row[0]: row[column] for row in cells[2:]}
        for column, version in enumerate(versions, 1)
    }


def write_table(ranks: dict[str, dict[str, str]]) -> None:
    versions = sorted(ranks, key=lambda version: [*map(int, version.split("."))], reverse=True)
    rows = [["typed", *versions], ["---"] * (len(versions) + 1)]
    rows += [
        [word, *(ranks[version].get(word, NOT_FOUND) for version in versions)] for word in WORDS
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + BEGIN + table + END + rest.split(END)[1], encoding="utf-8")


def described(names: list[str]) -> str:
    """Return the rank of our node in words, with what comes first where it is not ours."""
    if OURS not in names:
        return NOT_FOUND
    rank = names.index(OURS) + 1
    return "1" if rank == 1 else f"{rank}, after {names[0]}"


def test_words_that_people_type_find_the_all_in_one_node(canvas, request):
    """ComfyUI before 0.11 has no aliases; there names alone are searched."""
    found = {word: canvas.search(word) for word in WORDS}
    ranks = {word: described(names) for word, names in found.items()}
    version = canvas.host.get("/system_stats")["system"]["comfyui_version"]
    terminal = request.config.get_terminal_writer()
    terminal.line(f"\nComfyUI {version}, {'Nodes 2.0' if canvas.vue else 'classic'}")
    for word, rank in ranks.items():
        terminal.line(f"{word:20} {rank:>4}   of {len(found[word])}")
    stored = read_table()
    if os.environ.get("VARESTORER_UPDATE_DOCS"):
        write_table({**stored, version: ranks})
        stored = read_table()
    # A version that the table does not have orders its own nodes otherwise; ours stays among the first.
    if version in stored:
        assert ranks == stored[version]
    aliases = canvas.page.evaluate(
        "'search_aliases' in LiteGraph.registered_node_types.VARestorerRestoreImage.nodeData"
    )
    if aliases:
        assert found["varestorer"][0] == OURS
        late = [word for word in OWN_WORDS if OURS not in found[word][:FIRST]]
        assert not late, ranks
        assert NOT_FOUND not in ranks.values(), ranks
        for names in found.values():  # a search for a repair does not offer damage first
            assert DAMAGES not in names[: names.index(OURS)]
    else:
        assert OURS in found["varestorer"]
        assert OURS in found["upscale"]
