"""Text from files made safe to show: names, metadata and messages go to terminals and logs."""

from __future__ import annotations

LONGEST = 200
"""Characters of a text from a file that are shown."""


def shown(text: object, longest: int = LONGEST) -> str:
    """Return a text on one line, with everything escaped that a terminal could act on, cut at `longest` characters.

    Letters of all scripts stay; control characters, direction marks and halves of surrogate pairs become escapes.
    """
    text = str(text)
    cut = "..." if len(text) > longest else ""
    return "".join(map(_escaped, text[:longest])) + cut


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
