"""The `varestorer` command. One module per subcommand, each with `add_parser`.

No module imports torch before its subcommand runs, so that `varestorer --help` is instant.
"""

from __future__ import annotations

from ..errors import VARestorerError


class UsageError(VARestorerError):
    """Invalid arguments; the command exits with code 2."""
