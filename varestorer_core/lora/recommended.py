"""What an adapter says of itself: its task, and the settings that suit it.

A low-light adapter, for one, must not have its result's coarse colours matched to the dark input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import json_text
from ..errors import CheckpointError, SettingError
from ..settings import SETTINGS

RECOMMENDED = "varestorer.recommended"
"""Key of a file's metadata."""
NAMES = ("color_match", "detail", "fidelity")
"""Settings that an adapter can recommend."""


@dataclass(frozen=True)
class Recommended:
    """Of one adapter."""

    task: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    """By name, of `NAMES`."""

    def as_metadata(self) -> str:
        """Return it as a file's metadata have it."""
        return json.dumps({"task": self.task, "settings": self.settings})


def recommended_by(metadata: Mapping[str, str], name: str) -> Recommended:
    """Return what a file recommends; nothing if it has no such entry.

    Args:
        name: of the file, for messages.

    Raises:
        CheckpointError: if the entry is damaged, or has values that no setting can have.
    """
    text = metadata.get(RECOMMENDED)
    if text is None:
        return Recommended()
    try:
        values = json_text.loads(text)
        return Recommended(str(values["task"]), checked(dict(values["settings"])))
    except (ValueError, LookupError, TypeError, SettingError) as error:
        raise CheckpointError(
            f"{name} recommends settings that cannot be read ({error}). The file is damaged, or was written by a "
            "newer version; update VARestorer."
        ) from error


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Return recommended settings whose names and values are possible.

    Raises:
        SettingError: for others.
    """
    for name, value in settings.items():
        if name not in NAMES:
            raise SettingError(f"An adapter can recommend {', '.join(NAMES)}, got {name}.")
        SETTINGS[name].check(name, value)
    return settings
