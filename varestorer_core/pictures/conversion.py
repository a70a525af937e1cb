"""Conversion of pictures in memory (PIL, NumPy, tensors) to tensors, and of results back to the kind of the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import ImageError, SettingError
from ..resize import resize_lanczos
from ..wording import shown
from .transparency import fill_hidden
from .writing import to_grey, to_uint8, to_uint16

_Back = Callable[[Tensor], Any]

_KINDS = (
    "a PIL image, a NumPy array (H, W), (H, W, 3) or (H, W, 4), a tensor (3, H, W) or (B, 3, H, W), "
    "or a list of them"
)
_MOST_16 = 65535
_OVERSHOOT = 0.5
"""How far values may lie outside [0, 1]. Resampling filters overshoot; values of 0 to 255 are a mistake."""


@dataclass(frozen=True)
class Pictures:
    """Pictures as the pipeline accepts them, and the conversion of results back to the kind of the input."""

    rgb: list[Tensor]
    """(3, H, W) float32 each, in [0, 1]."""
    _backs: list[_Back]
    _join: Callable[[list[Any]], Any]

    def like_the_input(self, restored: Sequence[Tensor]) -> Any:
        """Return restored pictures (3, H', W') like the input: kind, element type, grey, alpha, list or single."""
        return self._join([back(rgb) for back, rgb in zip(self._backs, restored, strict=True)])


def as_pictures(given: Any) -> Pictures:
    """Convert pictures of any supported kind to tensors.

    Args:
        given: one picture or a list of them; see `Restorer.restore` for the kinds.

    Raises:
        ImageError: for anything else.
    """
    if isinstance(given, list | tuple):
        pairs = [_one(picture) for picture in given]
        return Pictures([rgb for rgb, _ in pairs], [back for _, back in pairs], list)
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 4:
        pairs = [_one(picture) for picture in given]
        join = torch.stack if isinstance(given, Tensor) else np.stack
        return Pictures([rgb for rgb, _ in pairs], [back for _, back in pairs], join)
    rgb, back = _one(given)
    return Pictures([rgb], [back], lambda results: results[0])


def _one(picture: Any) -> tuple[Tensor, _Back]:
    if isinstance(picture, Tensor):
        return _from_tensor(picture)
    if isinstance(picture, Image.Image):
        return _from_pil(picture)
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    raise ImageError(f"Expected {_KINDS}, got {type(picture).__name__}.")


def _from_tensor(picture: Tensor) -> tuple[Tensor, _Back]:
    if not picture.is_floating_point():
        raise ImageError(
            f"A picture as a tensor must be floating point in [0, 1], got {picture.dtype}. Divide by 255 first."
        )
    if picture.is_meta or picture.layout != torch.strided:
        kind = "a meta tensor, which has no values" if picture.is_meta else str(picture.layout)
        raise ImageError(f"A picture as a tensor must be dense, got {kind}.")
    return _in_range(picture.detach().float()), lambda rgb: rgb


def _from_array(picture: np.ndarray) -> tuple[Tensor, _Back]:
    """See `Restorer.restore` for the shapes and types."""
    channels = picture.shape[2] if picture.ndim == 3 else 1
    if picture.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in picture.shape:
        raise ImageError(f"Expected {_KINDS}, got an array of shape {picture.shape}.")
    dtype = picture.dtype.newbyteorder("=")  # results have the machine's byte order
    if dtype in (np.uint8, np.uint16):
        top = float(np.iinfo(dtype).max)
    elif np.issubdtype(dtype, np.floating):
        top = 1.0
    else:
        raise ImageError(
            f"A picture as an array must be uint8, uint16 or floating point, got {dtype}."
        )
    planes = torch.from_numpy(picture.astype(np.float32)).reshape(*picture.shape[:2], channels)
    planes = _in_range(planes.movedim(-1, 0) / top)  # HWC -> CHW
    rgb = planes[:3] if channels >= 3 else planes[:1].expand(3, -1, -1)
    alpha = planes[3:] if channels == 4 else None
    if alpha is not None and not bool(torch.isfinite(alpha).all()):
        raise ImageError("The alpha channel has NaN or infinite values. Replace them.")
    rgb = rgb if alpha is None else fill_hidden(rgb, alpha)

    def back(restored: Tensor) -> np.ndarray:
        parts = to_grey(restored) if channels == 1 else restored
        if alpha is not None:
            parts = torch.cat(
                [parts, resize_lanczos(alpha, (restored.shape[-2], restored.shape[-1]))]
            )
        if dtype == np.uint8:
            values = to_uint8(parts)
        elif dtype == np.uint16:
            values = to_uint16(parts)
        else:
            values = parts.movedim(0, -1).numpy().astype(dtype)  # CHW -> HWC
        return values[..., 0] if picture.ndim == 2 else values

    return rgb.contiguous(), back


def _from_pil(picture: Image.Image) -> tuple[Tensor, _Back]:
    """Keep alpha, grey, 16-bit grey and the ICC profile of RGB; convert a palette to RGB."""
    try:
        picture.load()
    except (OSError, ValueError, SyntaxError) as error:  # truncated, closed, or damaged
        raise ImageError(
            f"The PIL image cannot be read: {str(error).rstrip('.')}. Open the file again, or choose another one."
        ) from error
    if picture.mode in ("La", "RGBa"):  # premultiplied
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    if picture.mode == "F":
        rgb, to_array = _from_array(np.asarray(picture))
        return rgb, lambda restored: Image.fromarray(to_array(restored))
    if picture.mode == "I":
        low, high = (int(value) for value in picture.getextrema())  # pyright: ignore[reportArgumentType]
        if low < 0 or high > _MOST_16:
            raise ImageError(
                f"A PIL image of mode I must have values between 0 and {_MOST_16} (16 bits), got {low} to {high}. "
                "Convert it to mode F with values in [0, 1]."
            )
    if picture.mode in ("I", "I;16", "I;16B", "I;16L"):
        rgb, to_array = _from_array(np.asarray(picture).astype(np.uint16))
        return rgb, lambda restored: Image.fromarray(to_array(restored))
    has_alpha = picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info
    is_grey = picture.mode in ("1", "L", "LA")
    rgb, _ = _from_array(np.asarray(picture.convert("RGB")))
    alpha = None
    if has_alpha:
        alpha_band = np.asarray(picture.convert("RGBA").getchannel("A"), dtype=np.float32)
        alpha = torch.from_numpy(alpha_band / 255.0)[None]
        rgb = fill_hidden(rgb, alpha)
    profile = picture.info.get("icc_profile") if picture.mode in ("RGB", "RGBA") else None

    def back(restored: Tensor) -> Image.Image:
        result = Image.fromarray(to_uint8(restored))
        if is_grey:
            grey = to_grey(restored).expand(3, -1, -1)
            result = Image.fromarray(to_uint8(grey)[..., 0])
        if alpha is not None:
            plane = resize_lanczos(alpha, (restored.shape[-2], restored.shape[-1])).expand(
                3, -1, -1
            )
            result.putalpha(Image.fromarray(to_uint8(plane)[..., 0]))
        if profile:
            result.info["icc_profile"] = profile
        return result

    return rgb, back


def as_masks(given: Any) -> list[Tensor]:
    """Convert masks to tensors (h, w), 1 where to restore.

    Args:
        given: one mask or several; see `Restorer.restore` for the kinds.

    Raises:
        SettingError: for anything else.
    """
    if isinstance(given, list | tuple):
        return [_mask(mask) for mask in given]
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 3:
        return [_mask(mask) for mask in given]
    return [_mask(given)]


def _mask(mask: Any) -> Tensor:
    if isinstance(mask, Image.Image):
        deep = mask.mode.startswith("I")  # 16 bits, which Pillow would clip at 255
        mask = np.asarray(mask if deep or mask.mode in ("F", "L") else mask.convert("L"))
        mask = mask.astype(np.float32) / _MOST_16 if deep else mask
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "bfiu":
        if mask.dtype.newbyteorder("=") == np.uint16:
            mask = mask.astype(np.float32) / _MOST_16
        mask = torch.from_numpy(mask.astype(np.uint8 if mask.dtype == np.uint8 else np.float32))
    if not isinstance(mask, Tensor):
        raise SettingError(
            "Expected a mask as a tensor, NumPy array or PIL image (height, width), or a list of them, got "
            f"{shown(repr(mask)) if isinstance(mask, str) else type(mask).__name__}."
        )
    values = mask.detach().cpu().float() / (255 if mask.dtype == torch.uint8 else 1)
    if values.numel() and bool((values < -_OVERSHOOT).any() | (values > 1 + _OVERSHOOT).any()):
        raise SettingError(
            "A mask must have values in [0, 1], or the full range of 8 or 16 bits, got "
            f"{values.min():g} to {values.max():g}."
        )
    return values


def _in_range(values: Tensor) -> Tensor:
    """Reject values that were not divided by 255. NaN is detected later, with a message of its own."""
    if values.numel() and bool((values.amin() < -_OVERSHOOT) | (values.amax() > 1 + _OVERSHOOT)):
        raise ImageError(
            f"Values of a picture in floating point must lie in [0, 1], got {values.amin():g} to "
            f"{values.amax():g}. Divide 8-bit values by 255."
        )
    return values
