"""The `varestorer` command. One module per subcommand, each with `add_parser`.

No module imports torch before its subcommand runs, so that `varestorer --help` is instant.
"""

from __future__ import annotations

import sys

from ..errors import VARestorerError


class UsageError(VARestorerError):
    """Invalid arguments; the command exits with code 2."""


def note(text: str) -> None:
    """Print a note on stderr, at once."""
    # Not with this package, which is imported before Ctrl-C is handled.
    from ..wording import LONGEST_SENTENCE, shown

    print(f"varestorer: note: {shown(text, LONGEST_SENTENCE)}", file=sys.stderr, flush=True)
