"""Inputs that are automatic by default: an adapter's recommendation, otherwise the model's, otherwise the default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..varestorer_core.settings import SETTINGS, default_of, described_default

AUTO = "auto"
"""Menu entry of an automatic choice."""
AUTO_NUMBER = -1.0
"""Value of an automatic number: below the range, because saved workflows keep theirs."""


def automatic_number(name: str) -> Any:
    """Return the input of a number that is automatic by default: `detail` or `fidelity`."""
    setting = SETTINGS[name]
    return io.Float.Input(
        name,
        default=AUTO_NUMBER,
        min=AUTO_NUMBER,
        max=setting.high,
        step=setting.step,
        round=0.001,
        tooltip=f"{setting.text} Values: {setting.range}, or -1 for automatic: the value that an adapter "
        f"recommends, otherwise {described_default(name)}.",
    )


def color_match_input() -> Any:
    """Return the `color_match` input, automatic by default, of nodes that return restored pictures."""
    setting, usual = SETTINGS["color_match"], described_default("color_match")
    return io.Combo.Input(
        "color_match",
        options=[AUTO, *setting.choices],
        default=AUTO,
        tooltip=f"{setting.text} auto: the method that an adapter recommends, otherwise {usual}.",
    )


def chosen(recommended: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    """Return settings in which automatic values are replaced.

    Args:
        recommended: settings by name, of the model and its adapters; see `host.adapter.recommended_for`.
        **values: settings by name, as the widgets have them.
    """

    def choose(name: str, value: Any) -> Any:
        automatic = value == AUTO if isinstance(value, str) else value < 0
        return recommended.get(name, default_of(name)) if automatic else value

    return {name: choose(name, value) for name, value in values.items()}
