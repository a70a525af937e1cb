"""The content of a picture file: pixels, and the colour profile and metadata that a result keeps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Metadata:
    """Metadata of a picture file; every part may be absent."""

    dpi: tuple[float, float] | None = None
    """Pixels per inch, horizontal and vertical."""
    exif: bytes | None = None
    """EXIF block ("Exif\\0\\0" and a TIFF structure) without orientation, thumbnail and pixel layout."""
    xmp: bytes | None = None
    """XMP packet, its orientation reset."""
    iptc: bytes | None = None
    """IPTC-IIM datasets, as Photoshop's resource 0x0404 holds them."""


@dataclass(frozen=True)
class Picture:
    """A picture as the pipeline accepts it, and how its file stored it."""

    rgb: Tensor
    """(3, H, W) float32 in [0, 1]; for an opaque 8-bit RGB file exactly its values / 255. Where `alpha` is 0, the
    colours of the nearest visible pixels."""
    alpha: Tensor | None = None
    """(1, H, W) float32 in [0, 1], not multiplied into `rgb`; None for an opaque picture."""
    bit_depth: int = 8
    """8 or 16 bits per channel."""
    icc_profile: bytes | None = None
    """RGB profile of `rgb`; None means sRGB."""
    notes: tuple[str, ...] = ()
    """Remarks that the user should see: what was left out or converted."""
    grey: bool = False
    """Whether the file has a single grey channel; the channels of `rgb` are then equal."""
    metadata: Metadata = Metadata()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[-2], self.rgb.shape[-1]
