"""Options of `varestorer distill export` for the recommendations of adapters."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import UsageError

if TYPE_CHECKING:
    from ..lora.recommended import Recommended


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the recommendations of an exported adapter."""
    group = parser.add_argument_group("export of adapters")
    group.add_argument("--task", default="", metavar="NAME", help="what it restores, such as rain")
    group.add_argument(
        "--recommend",
        default="",
        metavar="NAME=VALUE,...",
        help="recommended values of color_match, detail and fidelity, such as color_match=none; used as defaults when "
        "restoring with the adapter",
    )


def recommendation(args: argparse.Namespace) -> Recommended | None:
    """Return the recommendations of the adapter; None if none were given.

    Raises:
        UsageError: for unknown settings, values out of range, or a stage other than the export.
    """
    from ..errors import SettingError
    from ..lora.recommended import Recommended, checked
    from ..settings import SETTINGS

    if not args.task and not args.recommend:
        return None
    if args.stage not in ("export", "all"):
        raise UsageError("--task and --recommend have an effect only in the stages export and all.")
    settings: dict[str, Any] = {}
    for part in filter(None, args.recommend.split(",")):
        name, _, value = (text.strip() for text in part.partition("="))
        known = SETTINGS.get(name)
        try:
            settings[name] = value if known is None or known.choices else float(value)
        except ValueError as error:
            raise UsageError(f"--recommend {part}: expected a number after the =.") from error
    try:
        return Recommended(args.task, checked(settings))
    except SettingError as error:
        raise UsageError(f"--recommend: {error}") from error
