"""Entry point of the `varestorer` command: arguments, errors and exit codes.

Exit codes: 0 all done; 1 an input failed or a picture of a folder was skipped; 2 wrong usage; 130 interrupted
with Ctrl-C, 143 by SIGTERM in training.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NoReturn

from .. import __version__
from ..errors import VARestorerError
from ..wording import LONGEST_SENTENCE, shown, system_reason
from . import UsageError
from .terminal import guarded_output


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the program's own); return the exit code."""
    with guarded_output() as stdout:
        code = _run(argv)
    # Output lost on a full disk is a failure; a reader that closed its pipe is not.
    return 1 if code == 0 and stdout.lost else code


def _run(argv: Sequence[str] | None) -> int:
    debug = False
    args = argparse.Namespace()
    try:
        args = _parsed(build_parser(), argv)
        debug = args.debug
        return args.run(args)
    except KeyboardInterrupt as stop:
        print(f"\nvarestorer: {stop if stop.args else 'interrupted'}", file=sys.stderr)
        return 128 + getattr(stop, "signal_number", signal.SIGINT)
    except VARestorerError as error:
        if debug:
            raise
        print(f"varestorer: error: {shown(error, LONGEST_SENTENCE)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        # Folders without permission, names that are too long, circular links.
        if debug:
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        print(
            f"varestorer: error: {shown(f'{place}{system_reason(error)}', LONGEST_SENTENCE)}.",
            file=sys.stderr,
        )
        return 1
    except (MemoryError, RuntimeError) as error:
        from ..tiles.batching import is_out_of_memory

        if debug or not (isinstance(error, MemoryError) or is_out_of_memory(error)):
            raise
        print(f"varestorer: error: {_out_of_memory(args)}", file=sys.stderr)
        return 1


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments. Unknown ones are reported by the command, whose --help lists the known ones."""
    args, unknown = parser.parse_known_args(argv)
    command = vars(args).pop("command_parser")
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line instead of the list of all options, with control sequences escaped.

    Options are not abbreviated, because an abbreviation may be another option's misspelling.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs, allow_abbrev=False)

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        """Report unknown options of a command before required ones that are missing: they may be these, misspelt."""
        if self._subparsers is None:
            names = [
                arg.partition("=")[0] for arg in takewhile(lambda arg: arg != "--", args or ())
            ]
            known = self._option_string_actions
            if unknown := [n for n in names if n.startswith("--") and n not in known]:
                self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        message = shown(message, LONGEST_SENTENCE).rstrip(".")
        self.exit(2, f"{self.prog}: error: {message}. Options: {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    # Imported here, so that Ctrl-C during the import has the same effect as later.
    from . import benchmark, convert, degrade, demo, distill, evaluate, inspect, profile, restore

    parser = _Parser(
        prog="varestorer",
        description="Restore and enlarge degraded photographs with VARestorer, in one pass.",
        epilog="varestorer COMMAND --help lists the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"varestorer {__version__}")
    parser.add_argument("--debug", action="store_true", help=_DEBUG_HELP)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        demo,
        restore,
        inspect,
        convert,
        degrade,
        evaluate,
        benchmark,
        profile,
        distill,
    ):
        command.add_parser(commands)
    for subparser in commands.choices.values():
        subparser.set_defaults(command_parser=subparser)
        # Also accepted after the command's name; suppressed so that it does not override one before it.
        subparser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG_HELP
        )
    return parser


def _out_of_memory(args: argparse.Namespace) -> str:
    """Return what to do when memory runs out, by the options of the command."""
    advice = ["Close other programs that use it"]
    if hasattr(args, "dtype"):
        advice.append("choose a smaller type (--dtype bf16)")
    for name, option in (("tile_batch", "--tile-batch"), ("batch", "--batch")):
        if hasattr(args, name):
            advice.append(f"choose a smaller {option}")
    if hasattr(args, "checkpointing"):
        advice.append("train the student with --checkpointing")
    if hasattr(args, "device"):
        advice.append("run with --device cpu")
    *first, last = advice
    steps = f"{', '.join(first)}, or {last}" if first else last
    return f"There is not enough memory on the device. {steps}."


_DEBUG_HELP = "show where an error comes from"
