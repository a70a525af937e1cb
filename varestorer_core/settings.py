"""The settings of a restoration: names, defaults, ranges and texts, in one place.

The command's options, the nodes' inputs, the tables of the documentation and the checks are made from this file.
It does not import torch: `varestorer --help` and node schemas read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from .errors import SettingError

COLOR_MATCHES = ("none", "wavelet", "adain", "lab")
"""How a result takes its colours from the source; see `color.match_color`."""


_ENDLESS = 2**32
"""A limit from which on people need not read it."""


@dataclass(frozen=True)
class Setting:
    """What one setting can be, and the text that users read about it.

    Args:
        text: what it does, for option help and tooltips. Sentences, without the range and the default.
        low, high: of a number, both included.
        step: by which a slider moves; None for whole numbers that have no natural step.
        choices: of a word.
    """

    text: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise SettingError if `value` is outside the range or not among the choices."""
        if self.choices:
            if value not in self.choices:
                raise SettingError(
                    f"{name} must be one of {', '.join(self.choices)}, got {value!r}."
                )
            return
        assert self.low is not None and self.high is not None  # noqa: PT018
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Written so that NaN is refused, too.
        if not (is_number and self.low <= value <= self.high):
            raise SettingError(f"{name} must be {self.range}, got {value!r}.")

    @property
    def range(self) -> str:
        """The range as words, such as "from 0 to 1"."""
        if self.high is None or self.high >= _ENDLESS:
            return f"from {self.low:g} up"
        return f"from {self.low:g} to {self.high:g}"


def _setting(default: Any, text: str, **limits: Any) -> Any:
    return field(default=default, metadata={"setting": Setting(text, **limits)})


@dataclass(frozen=True)
class RestoreSettings:
    """How to restore: everything that decides the pixels besides the picture and the networks.

    Raises:
        SettingError: for a value out of its range, naming the setting.
    """

    upscale: float = _setting(
        2.0,
        "Enlargement of both sides. The result has exactly round(width x upscale) by round(height x upscale) pixels. "
        "1 only restores.",
        low=0.25,
        high=8.0,
        step=0.05,
    )
    seed: int = _setting(
        0,
        "Seed of the sampling noise, the same noise on every device. Has no effect while detail is 0.",
        low=0,
        high=2**64 - 1,
    )
    detail: float = _setting(
        0.0,
        "Strength of the sampling noise. 0 takes the most likely bits: calm and repeatable. 1 samples as the official "
        "code does: more texture, less faithful.",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    fidelity: float = _setting(
        0.0,
        "Pull of every bit towards the input's, in log-odds. 0 leaves the model alone; 1 to 4 calm an inventive one; "
        "20 returns the input as the VAE sees it.",
        low=0.0,
        high=20.0,
        step=0.1,
    )
    overlap: int = _setting(
        64,
        "Output pixels that neighbouring tiles share at least, up to half a tile: larger values count as that. More "
        "hides seams better and takes longer.",
        low=0,
        high=512,
        step=8,
    )
    color_match: str = _setting(
        "wavelet",
        "Takes the colours from the resized source. wavelet: its coarse colours, local; adain: mean and contrast of "
        "each channel; lab: the same in a perceptual colour space; none: as decoded.",
        choices=COLOR_MATCHES,
    )
    feather: int = _setting(
        16,
        "Soft edge of the mask: how far it reaches to either side, in output pixels. Has no effect without a mask.",
        low=0,
        high=512,
    )
    tile_batch: int = _setting(
        0,
        "Tiles per pass on a GPU. 0 chooses. More is faster on a big GPU and needs more memory; the number is halved "
        "when memory runs out. A CPU takes one at a time. Only speed depends on it.",
        low=0,
        high=64,
    )

    def __post_init__(self):
        for name, setting in SETTINGS.items():
            setting.check(name, getattr(self, name))


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in fields(RestoreSettings)}
"""By name, in the order in which users meet them."""


def default_of(name: str) -> Any:
    """Return the default of a setting."""
    return RestoreSettings.__dataclass_fields__[name].default
