"""Escaping of untrusted text (names, metadata, messages) for terminals and logs."""

from __future__ import annotations

import errno

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


def system_reason(error: OSError) -> str:
    """Return why the system refused a file, and what to do where that is not obvious; without the last full stop."""
    advice = {
        errno.EACCES: "Check the permissions of the file and the folders above it",
        errno.EPERM: "Check the permissions of the file and the folders above it",
        errno.ELOOP: "The link leads back to itself: replace it by the file",
    }.get(error.errno or 0)
    reason = str(error.strerror or error)
    return f"{reason}. {advice}" if advice else reason


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
