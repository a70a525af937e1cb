"""Start of the `varestorer` command, also as `python -m varestorer_core.cli`: quiet on Ctrl-C while modules load.

Little is imported at the top, since Ctrl-C during an import there would show a traceback.
"""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Import and run the command; return the exit code."""
    usual = signal.getsignal(signal.SIGINT)
    # Shells start background commands with Ctrl-C ignored, which stays so.
    guarded = usual is signal.default_int_handler
    if guarded:
        signal.signal(signal.SIGINT, _leave)
    from .main import build_parser
    from .main import main as run

    build_parser()  # imports the subcommands
    if guarded:
        signal.signal(signal.SIGINT, usual)
    try:
        return run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _leave(number: int, _: FrameType | None) -> None:
    """Exit at once: nothing has begun, and an exception within an import would be printed."""
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
