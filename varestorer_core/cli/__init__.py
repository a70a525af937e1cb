"""The `varestorer` command. One module per subcommand, each with `add_parser`.

No module imports torch before its subcommand runs: `varestorer --help` must be instant.
"""

from __future__ import annotations

from ..errors import VARestorerError


class UsageError(VARestorerError):
    """The command was called with arguments that cannot work; ends it with exit code 2."""
