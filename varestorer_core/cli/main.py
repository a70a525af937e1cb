"""Entry point of the `varestorer` command: arguments, errors and exit codes.

Exit codes: 0 all done; 1 an input failed; 2 wrong usage; 130 interrupted with Ctrl-C, 143 by SIGTERM in training.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import VARestorerError
from ..wording import shown
from . import UsageError, convert, degrade, demo, distill, evaluate, inspect, restore

_COMMANDS = (demo, restore, inspect, convert, degrade, evaluate, distill)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the program's own); return the exit code."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt as stop:
        print(f"\nvarestorer: {stop if stop.args else 'interrupted'}", file=sys.stderr)
        return 128 + getattr(stop, "signal_number", signal.SIGINT)
    except VARestorerError as error:
        if args.debug:
            raise
        print(f"varestorer: error: {shown(error, 2000)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        # A folder that may not be looked into, a drive that is gone: what no place of ours foresaw.
        if args.debug:
            raise
        where = shown(error.filename) + ": " if error.filename else ""
        print(f"varestorer: error: {where}{error.strerror or error}.", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="varestorer",
        description="Restore and enlarge degraded photographs with VARestorer, in one pass.",
        epilog="varestorer COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"varestorer {__version__}")
    parser.add_argument("--debug", action="store_true", help=_DEBUG_HELP)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    for subparser in commands.choices.values():
        # Also after the command's name; suppressed so that it does not undo one given before it.
        subparser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG_HELP
        )
    return parser


_DEBUG_HELP = "show where an error comes from"
