"""Codes that remember that they are tiles of a restoration, and whether they still lie as they did.

A LATENT's other entries do not reach a native VAE Decode, which passes the tensor on alone. Attributes of a tensor do,
but the result of an operation has none. This subclass of Tensor marks the results of all operations, such as those of
native latent nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...varestorer_core.errors import SettingError

if TYPE_CHECKING:
    from ...varestorer_core.tiles.geometry import TileGeometry

CHANGED = "decode first, and change the picture instead."
"""What to do about tiles that another node changed."""

_REARRANGES = frozenset(
    {
        *("flip", "fliplr", "flipud", "roll", "rot90", "permute", "t", "transpose", "transpose_"),
        *("swapaxes", "swapdims", "movedim", "moveaxis", "sort", "msort", "grid_sample"),
        *("gather", "index_select", "take", "take_along_dim"),
        *("__setitem__", "copy_", "index_copy", "index_copy_", "scatter", "scatter_"),
    }
)
"""Names of operations whose result may have the shape of its input and another order."""


class TileCodes(Tensor):
    """Codes (N, d, h, w) of tiles."""

    geometry: TileGeometry
    """Places of the tiles."""
    intact: bool
    """Whether each tile still lies in its place: operations on values keep it, those that move them do not."""

    def __deepcopy__(self, memo: dict[int, Any]) -> TileCodes:
        copied = mark_tiles(deepcopy(unmarked(self), memo), self.geometry)
        copied.intact = self.intact
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = super().__torch_function__(func, types, args, kwargs)
        sources = [*_marked(args), *_marked(kwargs.values())]
        moves = _moves(func, args)
        with torch._C.DisableTorchFunctionSubclass():
            if result is None and moves and isinstance(args[0], cls):
                args[0].intact = False  # tiles[...] = other
            for made in _tensors(result):
                if not isinstance(made, cls) or not sources:
                    continue
                kept = [s for s in sources if s.intact and s.shape == made.shape]
                made.geometry = (kept or sources)[0].geometry
                made.intact = bool(kept) and not moves
        return result


def mark_tiles(codes: Tensor, geometry: TileGeometry) -> TileCodes:
    """Return codes (N, d, h, w), without a copy, as those of the tiles of a geometry."""
    marked = codes.as_subclass(TileCodes)
    marked.geometry, marked.intact = geometry, True
    return marked


def geometry_of(codes: Tensor) -> TileGeometry | None:
    """Return the geometry of codes that are tiles, or None.

    Raises:
        SettingError: if an operation moved, split or resized the tiles.
    """
    if not isinstance(codes, TileCodes):
        return None
    if not codes.intact:
        raise SettingError(
            f"The restoration made {len(codes.geometry.places())} tiles, and a node in between moved, resized or split "
            f"them: {CHANGED}"
        )
    return codes.geometry


def unmarked(codes: Tensor) -> Tensor:
    """Return codes as an ordinary tensor, without a copy."""
    with torch._C.DisableTorchFunctionSubclass():
        return codes.as_subclass(Tensor) if isinstance(codes, TileCodes) else codes


def _moves(func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    name = getattr(func, "__name__", "")
    if name == "__get__":  # properties such as mT
        return getattr(func, "__self__", None) is not Tensor.data
    if name == "__getitem__":
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return not all(part is None or part is ... or isinstance(part, slice) for part in index)
    return name in _REARRANGES


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of a value, which may be a sequence."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _marked(values: Iterable[Any]) -> list[TileCodes]:
    found = (tensor for value in values for tensor in _tensors(value))
    return [t for t in found if isinstance(t, TileCodes) and hasattr(t, "geometry")]
