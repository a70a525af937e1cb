"""The options of `varestorer distill export` for adapters: what they tell those who restore with them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import UsageError

if TYPE_CHECKING:
    from ..lora.recommended import Recommended


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add what an exported adapter says of itself."""
    group = parser.add_argument_group("export of adapters")
    group.add_argument("--task", default="", metavar="NAME", help="what it restores, such as rain")
    group.add_argument(
        "--recommend",
        default="",
        metavar="NAME=VALUE,...",
        help="settings that suit it, of color_match, detail and fidelity, such as color_match=none; restoring takes "
        "them unless told otherwise",
    )


def recommendation(args: argparse.Namespace) -> Recommended | None:
    """Return what the adapter is to carry; None if nothing was given.

    Raises:
        UsageError: for settings or values that there are not, or another stage than the export.
    """
    from ..errors import SettingError
    from ..lora.recommended import Recommended, checked
    from ..settings import SETTINGS

    if not args.task and not args.recommend:
        return None
    if args.stage not in ("export", "all"):
        raise UsageError("--task and --recommend go with the stage export or all.")
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
