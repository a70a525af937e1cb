"""Colour matching of one IMAGE batch to another."""

from __future__ import annotations

from torch import Tensor

from ...varestorer_core.errors import ImageError
from ...varestorer_core.resize import resize_lanczos
from .images import join_alpha, to_alpha, to_image, to_pictures
from .progress import Progress


def recolor(image: Tensor, source: Tensor, method: str) -> Tensor:
    """Return an IMAGE batch with the colours of another; alpha is not changed.

    Args:
        source: IMAGE of any size; one picture for all, or one for each picture.
        method: see the core's `color.match_color`.
    """
    from ...varestorer_core.color import match_color

    pictures, sources, alpha = to_pictures(image), to_pictures(source), to_alpha(image)
    if len(sources) not in (1, len(pictures)):
        raise ImageError(
            f"Expected one source for all pictures, or one for each of the {len(pictures)}, got "
            f"{len(sources)}. Repeat or cut the batch of sources."
        )
    height, width = pictures[0].shape[-2:]
    sources = [resize_lanczos(picture, (height, width)) for picture in sources]
    progress = Progress()
    matched = []
    for index, picture in enumerate(pictures):
        matched.append(match_color(picture, sources[index % len(sources)], method))
        progress(index + 1, len(pictures))
    return join_alpha(to_image(matched), alpha)
