"""Colour matching of a restored picture to its source.

Three methods: `wavelet` replaces the lowest frequencies (StableSR's wavelet colour fix), `adain` matches mean and
standard deviation of each RGB channel, `lab` does so in CIELAB (D65), which separates lightness and the two colour
axes.

The work is done in bands of rows: besides the pictures, only one channel's plane and one band are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .color_space import lab_to_rgb, rgb_to_lab
from .errors import SettingError
from .settings import COLOR_MATCHES
from .tiles.batching import is_out_of_memory

_WAVELET_LEVELS = 5
_BAND = 2**18  # values of a band of rows, 1 MB, so that a cache holds a few
_DEVICE_BAND = 2**24  # on other devices, which need more work at once: 64 MB
_MIN_STD = (
    1e-5  # below this, a channel counts as flat: dividing by it would only amplify rounding errors
)


def match_color(
    image: Tensor,
    source: Tensor,
    method: str,
    *,
    in_place: bool = False,
    device: torch.device | None = None,
) -> Tensor:
    """Return `image` with the colours of `source`.

    Args:
        image, source: (3, H, W) of the same size, in [0, 1].
        method: one of `COLOR_MATCHES`; "none" returns `image` unchanged.
        in_place: the result may reuse the memory of `image`; `source` is never changed.
        device: CUDA device that may filter planes of CPU pictures for `wavelet`; other devices are not used.

    Returns:
        (3, H, W) float32 in [0, 1] on the device of `image`; with "none", `image` itself.
    """
    if method not in COLOR_MATCHES:
        raise SettingError(
            f"color_match must be one of {', '.join(COLOR_MATCHES)}, got {method!r}."
        )
    if method == "none":
        return image
    if image.shape != source.shape:
        raise ValueError(
            f"Image and source must have the same shape, got {tuple(image.shape)} and "
            f"{tuple(source.shape)}."
        )
    matched = image.float() if in_place else image.to(torch.float32, copy=True)
    source = source.to(image.device, torch.float32)
    if method == "wavelet":
        # The filter is linear, so swapping the low bands means adding the low band of the difference.
        for own, wanted in zip(matched, source, strict=True):
            _swap_low_band_(own, wanted, device)
    elif method == "adain":
        for own, wanted in zip(matched, source, strict=True):
            std, mean = torch.std_mean(wanted, correction=0)
            _match_statistics_(own, *torch.std_mean(own, correction=0), std, mean).clamp_(0, 1)
    else:
        statistics = (*_lab_statistics(matched), *_lab_statistics(source))
        for band in _bands(matched):
            band.copy_(lab_to_rgb(_match_statistics_(rgb_to_lab(band), *statistics)))
    return matched


def _swap_low_band_(own: Tensor, wanted: Tensor, device: torch.device | None) -> None:
    """Replace the low band of a plane (H, W) in place by that of another, on a CUDA device if the planes fit there."""
    if device is not None and device.type == "cuda" and own.device.type == "cpu":
        try:
            there = own.to(device)
            there.add_(_blur_(wanted.to(device) - there)).clamp_(0, 1)
            own.copy_(there)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    own.add_(_blur_(wanted - own)).clamp_(0, 1)


def _match_statistics_(
    values: Tensor, own_std: Tensor, own_mean: Tensor, std: Tensor, mean: Tensor
) -> Tensor:
    """Shift and scale values in place from one mean and standard deviation to another."""
    return values.sub_(own_mean).mul_(std / own_std.clamp_min(_MIN_STD)).add_(mean)


def _lab_statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return standard deviation and mean in CIELAB of sRGB (3, H, W), (3, 1, 1) float32 each."""
    count = image.shape[-2] * image.shape[-1]
    total, squares = (image.new_zeros(3, dtype=torch.float64) for _ in range(2))
    for band in _bands(image):
        lab = rgb_to_lab(band).double().flatten(1)
        total += lab.sum(1)
        squares += lab.square_().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return std.float()[:, None, None], mean.float()[:, None, None]


def _bands(image: Tensor) -> Iterator[Tensor]:
    """Yield views of bands of rows of (..., H, W)."""
    values = _BAND if image.device.type == "cpu" else _DEVICE_BAND
    rows = max(1, values // max(1, image.shape[-1]))
    for start in range(0, image.shape[-2], rows):
        yield image[..., start : start + rows, :]


def _blur_(plane: Tensor) -> Tensor:
    """Blur (H, W) in place with the a-trous cascade of (1, 2, 1)/4 taps 1, 2, 4, ... pixels apart."""
    for turned in (plane, plane.T):  # the axes are independent
        for band in _bands(turned):
            smooth = band.contiguous()
            for level in range(_WAVELET_LEVELS):
                smooth = _smooth(smooth, 2**level)
            band.copy_(smooth)
    return plane


def _smooth(plane: Tensor, distance: int) -> Tensor:
    """Filter (H, W) along its last axis with (1, 2, 1)/4 taps `distance` pixels apart."""
    width = plane.shape[-1]
    padded = F.pad(plane[None], (distance, distance), mode="replicate")[0]
    return padded[:, :width].add(padded[:, 2 * distance :]).mul_(0.25).add_(plane, alpha=0.5)
