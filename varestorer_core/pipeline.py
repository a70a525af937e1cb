"""A restoration in three stages, each over all tiles of all pictures: encode, restore, decode.

The stages run one after the other, so that each network is loaded once per run. Between the stages, only bits, packed
eight to a byte, and the resized sources are kept. The networks are passed as callables or modules that are already on
their device: this file only defines the order of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checks import check_bits, check_finite, check_pictures
from .color import match_color
from .config import TransformerConfig
from .errors import SettingError
from .models.bsq import pyramid_tokens, quantize
from .models.sampling import favour_bits, sample_bits
from .models.text_conditioning import TextContext
from .models.transformer import VARTransformer
from .resize import resized_ahead
from .schedule import ScaleSchedule
from .settings import RestoreSettings
from .tiles.batching import ProgressCallback, is_out_of_memory, run_batched
from .tiles.geometry import TileGeometry, check_masks, planned_layouts
from .tiles.interleaving import Interleaved
from .tiles.noise import tile_noise
from .tiles.tile_bits import TileBits, TileCodes
from .tiles.tiling import extract_tiles
from .wording import counted

DEFAULTS = RestoreSettings()
IsOutOfMemory = Callable[[BaseException], bool]


@dataclass(frozen=True)
class LQPyramid:
    """The low-quality pictures as input of the transformer."""

    bits: TileBits
    """(N, L, d), tiles of all pictures; a slice of tiles is a bool tensor on the CPU."""
    schedule: ScaleSchedule
    patch_size: int
    """Pixels per token of the tokenizer that made the bits."""
    geometry: TileGeometry
    inputs: tuple[Tensor, ...]
    """(3, H, W) in [0, 1] per picture: the input of the tokenizer, resized and, with a cleaner, cleaned."""

    @property
    def sources(self) -> tuple[Tensor, ...]:
        """The resized pictures before cleaning."""
        return self.geometry.sources

    @property
    def codes(self) -> TileCodes:
        """The summed codes (N, d, h, w) of the bits, as the decoder's input."""
        return TileCodes(self.bits, self.schedule)


@torch.inference_mode()
def encode_pyramid(
    pictures: Sequence[Tensor],
    encode: Callable[[Tensor], Tensor],
    settings: RestoreSettings,
    *,
    schedule: ScaleSchedule,
    patch_size: int,
    tile_batch: int = 1,
    masks: Sequence[Tensor] | None = None,
    clean: Callable[[Tensor], Tensor] | None = None,
    is_oom: IsOutOfMemory = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> LQPyramid:
    """Resize pictures to the output size, cut them into tiles, clean, encode and quantise each.

    Args:
        pictures: (3, H, W) float in [0, 1] each, of any sizes.
        encode: maps tiles (B, 3, T, T) in [-1, 1] to raw features (B, d, h, w).
        settings: `upscale` and `overlap` are used; see `planned_layouts`.
        schedule: of a square tile; determines T together with `patch_size`.
        tile_batch: tiles per batch.
        masks: (H, W) in [0, 1] per picture at output size: tiles that its mask does not touch are skipped,
            and the result is the source where the mask is 0.
        clean: maps tiles in [-1, 1] to cleaned tiles, not clamped, on any device.
        on_progress: called with (tiles done, tiles).

    Raises:
        ImageError: for an empty batch, another shape, NaN or infinite values, or results that do not fit into memory.
        SettingError: for a schedule whose tiles are not square.
        VARestorerError: if a network returns NaN or infinite values.
    """
    check_pictures(pictures)
    tile, tile_width = schedule.pixel_size(patch_size)
    if tile != tile_width:
        raise SettingError(f"Tiles are square, got a schedule of ratio {schedule.ratio}.")
    layouts = planned_layouts(pictures, settings, tile)
    sizes = [(layout.height, layout.width) for layout in layouts]
    geometry = TileGeometry(layouts, (), check_masks(masks, sizes))
    places = geometry.places()
    mergers = geometry.mergers() if clean is not None else []
    kept: list[
        TileBits
    ] = []  # a single element, added when the first batch has shown how many bits a token has

    with resized_ahead(pictures, sizes) as sources:

        def cut(start: int, stop: int) -> Tensor:
            parts = [extract_tiles(sources[p], layouts[p], t, t + 1) for p, t in places[start:stop]]
            return torch.cat(parts) * 2 - 1

        stage = Interleaved(len(places), cut)

        def run(start: int, stop: int) -> None:
            tiles = stage.take(start, stop)
            if clean is not None:
                tiles = clean(tiles)  # may be on a device, from which they are copied once, below
            features = encode(tiles).float()
            found = quantize(features, schedule).bits
            stage.meanwhile(found, start, stop)
            seen = tiles.cpu() if mergers else None
            if seen is not None:
                check_finite(seen, "cleaner")
            check_finite(features, "VAE's encoder")
            bits = found.cpu()

            # Stored only after everything that can run out of memory: such a batch is repeated in halves.
            def keep() -> None:
                if not kept:
                    kept.append(TileBits(len(places), *bits.shape[1:]))
                kept[0][start:stop] = bits
                if seen is not None:
                    for (p, t), tile in zip(places[start:stop], seen, strict=True):
                        mergers[p].add(t, (tile + 1) / 2)

            stage.later(found, keep)

        run_batched(len(places), tile_batch, run, is_oom=is_oom, on_progress=on_progress)
        stage.finish()
        geometry = replace(geometry, sources=tuple(sources))
    inputs = (
        tuple(geometry.joined(p, m) for p, m in enumerate(mergers)) if mergers else geometry.sources
    )
    bits = kept[0] if kept else TileBits(0, schedule.num_tokens, 0)  # masks that touch nothing
    return LQPyramid(bits, schedule, patch_size, geometry, inputs)


@torch.inference_mode()
def restore_codes(
    transformer: VARTransformer,
    pyramid: LQPyramid,
    text: TextContext,
    settings: RestoreSettings = DEFAULTS,
    *,
    tile_batch: int = 1,
    device: torch.device | str = "cpu",
    is_oom: IsOutOfMemory = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> TileCodes:
    """Predict the bits of every tile in one pass and return their summed codes.

    Args:
        text: context of one prompt, from `transformer.encode_text`.
        settings: `seed`, `detail` and `fidelity` are used. The noise depends on the seed and the position in
            the picture, never on the batch, the picture's index in it, or the device; `detail` scales it.
            `fidelity` is the log-odds added to each bit in favour of the LQ pyramid's.
        device: the device of the transformer.

    Returns:
        (N, d, h, w): indexing with a slice of tiles returns a tensor, float32 on the CPU.

    Raises:
        SettingError: if the pyramid belongs to another model.
        VARestorerError: if the model returns NaN or infinite values.
    """
    check_pyramid(pyramid, transformer.config)
    schedule, places = pyramid.schedule, pyramid.geometry.places()
    d = transformer.config.codebook_dim
    restored = TileBits(len(places), schedule.num_tokens, d)

    def noise_of(place: tuple[int, int]) -> Tensor:
        picture, tile = place
        layout = pyramid.geometry.layouts[picture]
        y, x = layout.positions[tile]
        return tile_noise(settings.seed, schedule, d, (y / layout.tile, x / layout.tile))

    stage = Interleaved(len(places), lambda start, stop: pyramid.bits[start:stop])

    def run(start: int, stop: int) -> None:
        lq_bits = stage.take(start, stop)
        on_device = lq_bits.to(device)
        tokens = pyramid_tokens(on_device, schedule, "long")
        found = transformer(tokens, text, schedule, lq_bits=on_device)
        stage.meanwhile(found, start, stop)
        noise = (
            torch.stack([noise_of(place) for place in places[start:stop]])
            if settings.detail > 0
            else None
        )
        logits = found.cpu()

        def keep() -> None:
            check_finite(logits, "transformer")
            favoured = logits
            if settings.fidelity > 0:
                favoured = favour_bits(logits, lq_bits, settings.fidelity)
            restored[start:stop] = sample_bits(favoured, noise, settings.detail)

        stage.later(found, keep)

    run_batched(len(places), tile_batch, run, is_oom=is_oom, on_progress=on_progress)
    stage.finish()
    return TileCodes(restored, schedule)


@torch.inference_mode()
def decode_tiles(
    decode: Callable[[Tensor], Tensor],
    codes: Tensor | TileCodes,
    geometry: TileGeometry,
    *,
    color_match: str = "none",
    tile_batch: int = 1,
    is_oom: IsOutOfMemory = is_out_of_memory,
    on_progress: ProgressCallback | None = None,
) -> list[Tensor]:
    """Decode every tile, blend the tiles of each picture, and match its colours once.

    Args:
        decode: maps summed codes (B, d, h, w) to tiles (B, 3, T, T) in [-1, 1].
        codes: (N, d, h, w), as a tensor or as returned by `restore_codes`.
        color_match: see `color.match_color`.

    Returns:
        Pictures (3, H, W) float32 in [0, 1] on the CPU.

    Raises:
        SettingError: if the geometry does not belong to the codes.
    """
    places = geometry.places()
    if len(places) != len(codes):
        raise SettingError(
            f"Expected codes of {counted(len(places), 'tile')}, got {len(codes)}. Decode the whole latent of "
            "VARestorer Restore Tiles, not a part of it."
        )
    mergers = geometry.mergers()
    stage = Interleaved(len(places), lambda start, stop: codes[start:stop])
    device = torch.device("cpu")  # or that of the first tiles

    def run(start: int, stop: int) -> None:
        nonlocal device
        found = decode(stage.take(start, stop)).float()
        stage.meanwhile(found, start, stop)
        tiles, device = found.cpu(), found.device

        def blend() -> None:
            check_finite(tiles, "VAE's decoder")
            for (p, t), tile in zip(places[start:stop], tiles, strict=True):
                mergers[p].add(t, (tile + 1) / 2)

        stage.later(found, blend)

    run_batched(len(places), tile_batch, run, is_oom=is_oom, on_progress=on_progress)
    stage.finish()
    restored = []
    for index, merger in enumerate(mergers):
        picture = geometry.joined(index, merger)
        source = geometry.sources[index]
        picture = match_color(picture, source, color_match, in_place=True, device=device)
        if geometry.masks is not None:
            picture = torch.lerp(source, picture, geometry.masks[index], out=picture)
        restored.append(picture)
    return restored


def check_pyramid(pyramid: LQPyramid, config: TransformerConfig) -> None:
    """Reject a pyramid that was made for another kind of model."""
    if len(pyramid.bits):
        check_bits(pyramid.bits.shape[-1], config)
