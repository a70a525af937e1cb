"""Escaping of untrusted text (names, metadata, messages) for terminals and logs."""

from __future__ import annotations

LONGEST = 200
"""Maximum number of characters shown."""
LONGEST_SENTENCE = 2000
"""Maximum number of characters of our own sentences, which contain such texts."""


def shown(text: object, longest: int = LONGEST) -> str:
    """Return a text on one line, with control sequences escaped, truncated to `longest` characters.

    Letters of all scripts are kept; control characters, direction marks and lone surrogates are escaped.
    """
    text = str(text)
    cut = "..." if len(text) > longest else ""
    return "".join(map(_escaped, text[:longest])) + cut


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 tensor" or "3 tensors"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
