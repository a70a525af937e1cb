"""A restoration in three stages, each over all tiles of all pictures: encode, restore, decode.

Stage after stage, so that each network is loaded once per run; between the stages only bits (one byte each),
codes of a token grid, and the resized sources are kept. The networks come in as callables or modules that are
where they should be already: this file owns the order of the work and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batching import ProgressCallback, is_out_of_memory, run_batched
from .color import match_color
from .config import TransformerConfig
from .errors import ImageError, SettingError
from .models.bsq import dequantize, pyramid_tokens, quantize
from .models.sampling import sample_bits, tile_noise
from .models.text_conditioning import TextContext
from .models.tokenizer import VisualTokenizer
from .models.transformer import VARTransformer
from .resize import resize_lanczos, target_size
from .schedule import ScaleSchedule, get_schedule
from .tiling import TileLayout, TileMerger, extract_tiles, plan_tiles

IsOutOfMemory = Callable[[BaseException], bool]


@dataclass(frozen=True)
class TileGeometry:
    """How the tiles of a run make pictures. Tiles are numbered through, picture after picture."""

    layouts: tuple[TileLayout, ...]
    """One per picture."""
    sources: tuple[Tensor, ...] | None = None
    """(3, H, W) in [0, 1] per picture: the input at output size, whose colours can be matched."""

    @property
    def num_tiles(self) -> int:
        """Tiles of all pictures."""
        return sum(len(layout) for layout in self.layouts)

    def places(self) -> list[tuple[int, int]]:
        """Return (picture, tile of the picture) of every tile."""
        return [(p, t) for p, layout in enumerate(self.layouts) for t in range(len(layout))]


@dataclass(frozen=True)
class LQPyramid:
    """The low-quality pictures as the transformer reads them."""

    bits: Tensor
    """(N, L, d) bool on the CPU, tiles of all pictures."""
    schedule: ScaleSchedule
    patch_size: int
    """Pixels per token of the tokenizer that made the bits."""
    geometry: TileGeometry
    inputs: tuple[Tensor, ...]
    """(3, H, W) in [0, 1] per picture: what the tokenizer saw, resized and, if so, cleaned."""

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The resized pictures before cleaning."""
        return self.geometry.sources or ()


@torch.inference_mode()
def encode_pyramid(
    pictures: Sequence[Tensor],
    encode: Callable[[Tensor], Tensor],
    *,
    schedule: ScaleSchedule,
    patch_size: int,
    upscale: float,
    overlap: int,
    tile_batch: int = 1,
    clean: Callable[[Tensor], Tensor] | None = None,
    is_oom: IsOutOfMemory = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> LQPyramid:
    """Resize pictures to the output size, cut them into tiles, clean, encode and quantise each.

    Args:
        pictures: (3, H, W) float in [0, 1] each, of any sizes.
        encode: tiles (B, 3, T, T) in [-1, 1] to raw features (B, d, h, w).
        schedule: of a square tile; fixes T together with `patch_size`.
        upscale: factor of both sides; the output has exactly round(side * upscale) pixels.
        overlap: least number of output pixels that neighbouring tiles share.
        clean: tiles in [-1, 1] to cleaned tiles, not clamped.
        on_progress: called with (tiles done, tiles).

    Raises:
        ImageError: for an empty batch, another shape, or values that are no numbers.
        SettingError: for an upscale or overlap out of range.
    """
    check_pictures(pictures)
    tile, tile_width = schedule.pixel_size(patch_size)
    if tile != tile_width:
        raise SettingError(f"tiles are square, got a schedule of ratio {schedule.ratio}.")
    sizes = [target_size(picture.shape[-2], picture.shape[-1], upscale) for picture in pictures]
    layouts = tuple(plan_tiles(*size, tile, overlap) for size in sizes)
    sources = tuple(
        resize_lanczos(p.float().cpu(), size) for p, size in zip(pictures, sizes, strict=True)
    )
    geometry = TileGeometry(layouts, sources)
    places = geometry.places()
    mergers = [TileMerger(layout) for layout in layouts] if clean is not None else []
    bits: list[Tensor] = []

    def run(start: int, stop: int) -> None:
        tiles = torch.cat(
            [extract_tiles(sources[p], layouts[p], t, t + 1) for p, t in places[start:stop]]
        )
        tiles = tiles * 2 - 1
        if clean is not None:
            tiles = clean(tiles)
        quantized = quantize(encode(tiles).float(), schedule).bits.cpu()
        # Kept only now: a batch that ran out of memory comes again in halves.
        bits.append(quantized)
        for (p, t), cleaned in zip(places[start:stop], tiles, strict=True):
            if mergers:
                mergers[p].add(t, (cleaned.cpu() + 1) / 2)

    run_batched(len(places), tile_batch, run, is_oom=is_oom, on_progress=on_progress)
    inputs = tuple(m.result().clamp_(0, 1) for m in mergers) if mergers else sources
    return LQPyramid(torch.cat(bits), schedule, patch_size, geometry, inputs)


@torch.inference_mode()
def restore_codes(
    transformer: VARTransformer,
    pyramid: LQPyramid,
    text: TextContext,
    *,
    seed: int = 0,
    detail: float = 0.0,
    tile_batch: int = 1,
    device: torch.device | str = "cpu",
    is_oom: IsOutOfMemory = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> Tensor:
    """Predict the bits of every tile in one pass and return their summed codes.

    Args:
        text: of one prompt, from `transformer.encode_text`.
        seed: of the sampling noise; a tile's noise depends on the seed, its picture's index and its
            own, never on the batch or the device.
        detail: scale of the noise; 0 takes the arg-max, 1 samples the model's distribution.
        device: where the transformer is.

    Returns:
        (N, d, h, w) float32 on the CPU.

    Raises:
        SettingError: if the pyramid belongs to another model, or detail is negative.
    """
    check_pyramid(pyramid, transformer.config)
    if not 0 <= detail < float("inf"):
        raise SettingError(f"detail must be a number from 0 up, got {detail}.")
    schedule, places = pyramid.schedule, pyramid.geometry.places()
    d = transformer.config.codebook_dim
    results: list[Tensor] = []

    def run(start: int, stop: int) -> None:
        lq_bits = pyramid.bits[start:stop].to(device)
        tokens = pyramid_tokens(lq_bits, schedule, "long")
        logits = transformer(tokens, text, schedule, lq_bits=lq_bits).cpu()
        noise = None
        if detail > 0:
            noise = torch.stack(
                [tile_noise(seed, p, t, schedule, d) for p, t in places[start:stop]]
            )
        bits = sample_bits(logits, noise, detail)
        results.append(dequantize(bits, schedule))

    run_batched(len(places), tile_batch, run, is_oom=is_oom, on_progress=on_progress)
    return torch.cat(results)


@torch.inference_mode()
def decode_tiles(
    decode: Callable[[Tensor], Tensor],
    codes: Tensor,
    geometry: TileGeometry,
    *,
    color_match: str = "none",
    tile_batch: int = 1,
    is_oom: IsOutOfMemory = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> list[Tensor]:
    """Decode every tile, blend the tiles of each picture, and match its colours once.

    Args:
        decode: summed codes (B, d, h, w) to tiles (B, 3, T, T) in [-1, 1].
        codes: (N, d, h, w).
        color_match: see `color.match_color`; without sources nothing is matched.

    Returns:
        Pictures (3, H, W) float32 in [0, 1] on the CPU.

    Raises:
        SettingError: if the geometry is not that of the codes.
    """
    places = geometry.places()
    if len(places) != codes.shape[0]:
        raise SettingError(
            f"the tile geometry is of {len(places)} tiles, got codes of {codes.shape[0]}. Decode a "
            "latent as VARestorer Restore gave it, not a part of it."
        )
    mergers = [TileMerger(layout) for layout in geometry.layouts]

    def run(start: int, stop: int) -> None:
        tiles = decode(codes[start:stop]).float().cpu()
        for (p, t), tile in zip(places[start:stop], tiles, strict=True):
            mergers[p].add(t, tile)

    run_batched(len(places), tile_batch, run, is_oom=is_oom, on_progress=on_progress)
    restored = []
    for index, merger in enumerate(mergers):
        picture = merger.result().add_(1).div_(2).clamp_(0, 1)
        if geometry.sources is not None:
            picture = match_color(picture, geometry.sources[index], color_match)
        restored.append(picture)
    return restored


def single_tile_geometry(codes: Tensor, patch_size: int) -> TileGeometry:
    """Return the geometry of codes (N, d, h, w) of which each is a picture of its own."""
    height, width = (side * patch_size for side in codes.shape[-2:])
    # A layout has square tiles; one that is cropped to the picture serves any shape.
    if height != width:
        raise SettingError(
            f"a latent without tile geometry must be square, got {codes.shape[-2]} x {codes.shape[-1]} "
            "tokens. Use the host's VAE Decode for it."
        )
    layout = TileLayout(height, width, height, ((0, 0),))
    return TileGeometry((layout,) * codes.shape[0])


def check_pictures(pictures: Sequence[Tensor]) -> None:
    """Refuse what cannot be restored, before any work."""
    if len(pictures) == 0:
        raise ImageError("expected at least one picture, got an empty batch. Load a picture first.")
    for index, picture in enumerate(pictures):
        if picture.ndim != 3 or picture.shape[0] != 3 or 0 in picture.shape:
            raise ImageError(
                f"picture {index} must be (3, height, width) with positive sides, got "
                f"{tuple(picture.shape)}."
            )
        if not bool(torch.isfinite(picture).all()):
            raise ImageError(
                f"picture {index} holds NaN or infinite values. An earlier step failed; check it."
            )


def check_pyramid(pyramid: LQPyramid, config: TransformerConfig) -> None:
    """Refuse a pyramid that another kind of model made."""
    if pyramid.bits.shape[-1] != config.codebook_dim:
        raise SettingError(
            f"this model reads {config.codebook_dim} bits per token, the pyramid has "
            f"{pyramid.bits.shape[-1]}. Model and VAE belong to different families: load both "
            "bundled files, or both official ones."
        )


class Restorer:
    """The three networks together: pictures in, restored pictures out.

    Args:
        transformer, tokenizer: on the device where they run.
        cleaner: tiles in [-1, 1] to cleaned tiles, or None.
    """

    def __init__(
        self,
        transformer: VARTransformer,
        tokenizer: VisualTokenizer,
        cleaner: Callable[[Tensor], Tensor] | None = None,
    ):
        self.transformer = transformer
        self.tokenizer = tokenizer
        self.cleaner = cleaner
        self.schedule = get_schedule(1.0, transformer.config.pixel_class)

    def restore(
        self,
        pictures: Sequence[Tensor],
        upscale: float,
        *,
        text: TextContext | None = None,
        overlap: int = 64,
        seed: int = 0,
        detail: float = 0.0,
        color_match: str = "wavelet",
        tile_batch: int = 1,
        device: torch.device | str = "cpu",
        on_progress: ProgressCallback | None = None,
    ) -> list[Tensor]:
        """Restore pictures (3, H, W) in [0, 1] to exactly round(side * upscale) pixels a side.

        Args:
            text: None uses the model's learned unconditional embedding.
            on_progress: called with (steps done, steps), three steps a tile.

        The other arguments are those of the stages.
        """
        options: dict[str, Any] = {"tile_batch": tile_batch}
        pyramid = encode_pyramid(
            pictures,
            lambda tiles: self.tokenizer.encode(tiles.to(device)),
            schedule=self.schedule,
            patch_size=self.tokenizer.config.patch_size,
            upscale=upscale,
            overlap=overlap,
            clean=self.cleaner,
            on_progress=_part(on_progress, 0),
            **options,
        )
        codes = restore_codes(
            self.transformer,
            pyramid,
            text if text is not None else self._unconditional(),
            seed=seed,
            detail=detail,
            device=device,
            on_progress=_part(on_progress, 1),
            **options,
        )
        return decode_tiles(
            lambda part: self.tokenizer.decode(part.to(device)),
            codes,
            pyramid.geometry,
            color_match=color_match,
            on_progress=_part(on_progress, 2),
            **options,
        )

    @torch.inference_mode()
    def _unconditional(self) -> TextContext:
        return self.transformer.encode_text()


def _part(on_progress: ProgressCallback | None, stage: int) -> ProgressCallback | None:
    """Turn the progress of one of three stages into that of the whole."""
    if on_progress is None:
        return None
    return lambda done, total: on_progress(stage * total + done, 3 * total)
