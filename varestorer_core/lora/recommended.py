"""Recommendations of an adapter: its task, and the settings that suit it.

For example, the coarse colours of a low-light adapter's result must not be matched to the dark input.
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
"""Metadata key of the recommendations."""
NAMES = ("color_match", "detail", "fidelity")
"""Settings that an adapter can recommend."""


@dataclass(frozen=True)
class Recommended:
    """Recommendations of one adapter."""

    task: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    """Recommended values by name, of `NAMES`."""

    def as_metadata(self) -> str:
        """Return the recommendations as an entry of a file's metadata."""
        return json.dumps({"task": self.task, "settings": self.settings})


def recommended_by(metadata: Mapping[str, str], name: str) -> Recommended:
    """Return the recommendations of a file; empty if it has none.

    Args:
        name: of the file, for messages.

    Raises:
        CheckpointError: if the entry is damaged, or has values out of range.
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
    """Return recommended settings after checking their names and values.

    Raises:
        SettingError: for an unknown name or a value out of range.
    """
    for name, value in settings.items():
        if name not in NAMES:
            raise SettingError(f"An adapter can recommend {', '.join(NAMES)}, got {name}.")
        SETTINGS[name].check(name, value)
    return settings
