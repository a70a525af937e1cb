"""The settings of a restoration: names, defaults, ranges and texts, in one place.

Command options, node inputs, documentation tables and validation are generated from this file. It does not import
torch, because `varestorer --help` and node schemas use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any

from .errors import SettingError

COLOR_MATCHES = ("none", "wavelet", "adain", "lab")
"""Methods of matching a result's colours to the source; see `color.match_color`."""
MAX_TILE_BATCH = 64
"""Maximum number of tiles per forward pass."""


_ENDLESS = 2**32
"""Upper limits from here on are not shown to users."""


@dataclass(frozen=True)
class Setting:
    """Range or choices of one setting, and its text for users.

    Args:
        text: description for option help and tooltips. Sentences, without the range and the default.
        low, high: inclusive limits of a number.
        step: increment of a slider; None for whole numbers without a natural step.
        whole: whether only whole numbers are allowed.
        choices: allowed strings.
        by_model: the default of command and nodes in words, if it depends on the model; see `recommended_detail`.
    """

    text: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    whole: bool = False
    choices: tuple[str, ...] = ()
    by_model: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raise SettingError if `value` is outside the range or not among the choices."""
        if self.choices:
            if value not in self.choices:
                raise SettingError(
                    f"{name} must be one of {', '.join(self.choices)}, got {value!r}."
                )
            return
        assert self.low is not None and self.high is not None  # noqa: PT018
        # NumPy's numbers are of these classes, too.
        kind = Integral if self.whole else Real
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        # Written so that NaN is also rejected.
        if not (is_number and self.low <= value <= self.high):  # pyright: ignore[reportOperatorIssue]
            whole = " and a whole number" if self.whole else ""
            raise SettingError(f"{name} must be {self.range}{whole}, got {value!r}.")

    @property
    def range(self) -> str:
        """The range in words, such as "between 0 and 1"."""
        if self.high is None or self.high >= _ENDLESS:
            return f"at least {self.low:g}"
        return f"between {self.low:g} and {self.high:g}"


def _setting(default: Any, text: str, **limits: Any) -> Any:
    whole = isinstance(default, int)
    return field(default=default, metadata={"setting": Setting(text, whole=whole, **limits)})


@dataclass(frozen=True)
class RestoreSettings:
    """Settings of a restoration: everything that affects the pixels besides the picture and the networks.

    Raises:
        SettingError: if a value is out of range; the message names the setting.
    """

    upscale: float = _setting(
        2.0,
        "Scale factor of both sides. The result has exactly round(width x upscale) by "
        "round(height x upscale) pixels. 1 restores without enlarging.",
        low=0.25,
        high=8.0,
        step=0.05,
    )
    seed: int = _setting(
        0,
        "Seed of the sampling noise, which is the same on every device. Has no effect while "
        "detail is 0.",
        low=0,
        high=2**64 - 1,
    )
    detail: float = _setting(
        0.0,
        "Strength of the sampling noise. 0 uses the most likely bits: smooth and deterministic. 1 "
        "samples like the official code: more texture, less faithful.",
        low=0.0,
        high=1.0,
        step=0.05,
        by_model="1 for the official model, as in the release, and 0 for the bundled one",
    )
    fidelity: float = _setting(
        0.0,
        "Bias of every bit towards the input's, in log-odds. 0 is off; 1 to 4 reduce invented "
        "detail; 20 returns the input as the VAE reconstructs it.",
        low=0.0,
        high=20.0,
        step=0.1,
    )
    overlap: int = _setting(
        64,
        "Minimum overlap of neighbouring tiles in output pixels; values above a quarter of a "
        "tile count as a quarter. More hides seams better and takes longer.",
        low=0,
        high=512,
        step=8,
    )
    color_match: str = _setting(
        "wavelet",
        "Matches the colours to the resized source. wavelet: its low frequencies, locally; adain: "
        "mean and contrast of each channel; lab: the same in a perceptual colour space; none: off.",
        choices=COLOR_MATCHES,
    )
    feather: int = _setting(
        16,
        "Width of the mask's soft edge on either side, in output pixels. Has no effect without a "
        "mask.",
        low=0,
        high=512,
    )
    tile_batch: int = _setting(
        0,
        "Tiles per forward pass on a GPU. 0 is automatic: 4 tiles of the official model or 64 of the "
        "bundled one, fewer if memory is short. More tiles are faster on a large GPU and need more "
        "memory; the number is halved when memory runs out. A CPU processes one at a time. Affects "
        "only speed.",
        low=0,
        high=MAX_TILE_BATCH,
    )

    def __post_init__(self):
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            setting.check(name, value)
            if not setting.choices:
                # Plain numbers, so that records can be written as JSON.
                object.__setattr__(self, name, int(value) if setting.whole else float(value))

    def with_changes(self, changes: Mapping[str, Any]) -> RestoreSettings:
        """Return the settings with some of them replaced, by name.

        Raises:
            SettingError: for an unknown name, or a value out of range.
        """
        if unknown := [name for name in changes if name not in SETTINGS]:
            raise SettingError(
                f"There is no setting {', '.join(unknown)}. Settings are {', '.join(SETTINGS)}."
            )
        return replace(self, **changes)


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in fields(RestoreSettings)}
"""Settings by name, in display order."""


def default_of(name: str) -> Any:
    """Return the default of a setting."""
    return RestoreSettings.__dataclass_fields__[name].default


def described_default(name: str) -> str:
    """Return the default that command and nodes have, in words."""
    default = default_of(name)
    return SETTINGS[name].by_model or (default if isinstance(default, str) else f"{default:g}")
