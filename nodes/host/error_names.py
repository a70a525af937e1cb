"""Names of the pack's errors in ComfyUI's error card.

The card shows module and class before the message, and the module of a pack is the path of its folder. Built-in classes
are shown by name only.
"""

from __future__ import annotations

from ...varestorer_core import errors


def shorten_error_names() -> None:
    """Make ComfyUI show `SettingError` without the path of its module."""
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.VARestorerError):
            value.__module__ = "builtins"
