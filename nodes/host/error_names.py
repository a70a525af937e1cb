"""Names of our errors in the host's error card.

The card puts module and class in front of the sentence, and the module of a pack is the path of its folder: a
line of noise before what the user has to read. Built-in classes stand there by their name alone.
"""

from __future__ import annotations

from ...varestorer_core import errors


def shorten_error_names() -> None:
    """Let the host show `SettingError` instead of the path of the module that defines it."""
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.VARestorerError):
            value.__module__ = "builtins"
