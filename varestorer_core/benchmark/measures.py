"""The built-in metrics, which need no download, and a table of all metrics.

PSNR and SSIM are computed twice: on Y of ITU-R BT.601 in studio range, not rounded, with a data range of 255, as in
super-resolution papers; and on RGB, where SSIM is the mean over the channels. SSIM uses the 11 x 11 Gaussian window of
Wang et al. 2004 at all positions inside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from .. import metrics
from .frequency import BANDS, band_psnr
from .luma import studio_luma
from .niqe import niqe

HIGHER, LOWER, NEAREST_ONE = "higher", "lower", "nearest to 1"


@dataclass(frozen=True)
class Measure:
    """A column of the table."""

    name: str
    title: str
    better: str
    digits: int
    of_set: bool = False
    """Whether it has one value for all pictures of a method."""

    @property
    def heading(self) -> str:
        """Title with the direction of better values, such as "GMSD ↓"."""
        return f"{self.title} {'→ 1' if self.better == NEAREST_ONE else '↑' if self.better == HIGHER else '↓'}"

    def rank(self, value: float) -> float:
        """Return a number that is lower for better values."""
        if self.better == NEAREST_ONE:
            return abs(value - 1)
        return -value if self.better == HIGHER else value


_BUILT_IN = (
    Measure("psnr_y", "PSNR (Y)", HIGHER, 2),
    Measure("ssim_y", "SSIM (Y)", HIGHER, 4),
    Measure("psnr_rgb", "PSNR (RGB)", HIGHER, 2),
    Measure("ssim_rgb", "SSIM (RGB)", HIGHER, 4),
    Measure("ms_ssim", "MS-SSIM", HIGHER, 4),
    Measure("gmsd", "GMSD", LOWER, 4),
    *(Measure(f"psnr_{band}", f"PSNR, {band} frequencies", HIGHER, 2) for band in BANDS),
    Measure("gradient_energy", "gradient energy", NEAREST_ONE, 3),
    Measure("niqe", "NIQE", LOWER, 3),
)
PYIQA = (
    Measure("lpips", "LPIPS", LOWER, 4),
    Measure("dists", "DISTS", LOWER, 4),
    Measure("maniqa", "MANIQA", HIGHER, 4),
    Measure("musiq", "MUSIQ", HIGHER, 2),
    Measure("clipiqa", "CLIPIQA", HIGHER, 4),
    Measure("liqe", "LIQE", HIGHER, 3),
    Measure("qalign", "QALIGN", HIGHER, 3),
    Measure("fid", "FID", LOWER, 2, of_set=True),
)
"""Metrics of pyiqa, whose weights are not part of this package."""
MEASURES = {measure.name: measure for measure in (*_BUILT_IN, *PYIQA)}
BUILT_IN = tuple(measure.name for measure in _BUILT_IN)


def built_in(
    picture: Tensor, reference: Tensor, names: Iterable[str] = BUILT_IN, crop: int = 0
) -> dict[str, float | None]:
    """Return the built-in metrics of a picture (3, H, W) in [0, 1]; None for those that it is too small for.

    Args:
        reference: of the same size.
        crop: pixels to remove at every side of both pictures first.
    """
    metrics.check_alike(picture, reference, least=metrics.WINDOW + 2 * crop)
    inside = slice(crop, -crop or None)
    x, y = (image[:, inside, inside].double() for image in (picture, reference))
    one, other = (studio_luma(image)[None] for image in (x, y))
    bands = {f"psnr_{band}": value for band, value in band_psnr(x, y).items()}
    energy, wanted = (metrics.gradient_energy(image).item() for image in (x, y))

    def blind() -> float | None:
        try:
            return niqe(x)
        except ValueError:  # too small
            return None

    functions = {
        "psnr_y": lambda: metrics.psnr(one, other, data_range=255).item(),
        "ssim_y": lambda: _ssim_255(one, other),
        "psnr_rgb": lambda: metrics.psnr(x, y).item(),
        "ssim_rgb": lambda: metrics.ssim(x, y).item(),
        "ms_ssim": lambda: metrics.ms_ssim(x, y).item(),
        "gmsd": lambda: metrics.gmsd(x, y).item(),
        "gradient_energy": lambda: energy / wanted if wanted else None,
        "niqe": blind,
    }
    values = {name: bands[name] if name in bands else functions[name]() for name in names}
    return {name: None if v is None or math.isnan(v) else v for name, v in values.items()}


def _ssim_255(one: Tensor, other: Tensor) -> float:
    luminance, structure = metrics.ssim_maps(one, other, data_range=255)
    return (luminance * structure).mean().item()
