"""Schemas that every supported host understands.

An unknown keyword raises while the schema is built and takes the whole pack down with it, so what
younger hosts added (`search_aliases`, `advanced`) is passed only where it is known.

Nodes call `io.Schema(node_id="...")` with the id written out: registries find nodes by reading the
source, not by running it.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from comfy_api.latest import io

from ..varestorer_core.color import COLOR_MATCHES

CATEGORY = "image/VARestorer"

_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def where_known(**fields: Any) -> dict[str, Any]:
    """Return those of the schema fields that this host knows."""
    return {name: value for name, value in fields.items() if name in _SCHEMA_FIELDS}


def expert(input_class: Any, input_id: str, **fields: Any) -> Any:
    """Return an input that the host folds away among the advanced ones.

    It is optional: a prompt that was written before the input existed stays valid.
    """
    fields["optional"] = True
    if "advanced" in inspect.signature(input_class.__init__).parameters:
        fields["advanced"] = True
    else:  # hosts before 0.10: their front end reads the same flag from the options
        fields["extra_dict"] = {**fields.get("extra_dict", {}), "advanced": True}
    return input_class(input_id, **fields)


def tile_batch_input() -> Any:
    """Return the input that the three tile-wise nodes share."""
    return expert(
        io.Int.Input,
        "tile_batch",
        default=0,
        min=0,
        max=64,
        tooltip="Tiles per pass on a GPU, 0 to 64. 0 chooses by free memory. More is faster on a "
        "big GPU and needs more memory; the number is halved when memory runs out. A CPU takes one "
        "at a time.",
    )


def seed_input() -> Any:
    """Return the seed of nodes that restore."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="Seed of the sampling noise, a whole number from 0 up. The same seed gives the same "
        "noise on every device. Has no effect while detail is 0.",
    )


def upscale_input() -> Any:
    """Return the enlargement of nodes that begin with a picture."""
    return io.Float.Input(
        "upscale",
        default=2.0,
        min=0.25,
        max=8.0,
        step=0.05,
        round=0.001,
        tooltip="Enlargement, 0.25 to 8 times. The result has exactly round(width x "
        "upscale) by round(height x upscale) pixels. 1 only restores.",
    )


def overlap_input() -> Any:
    """Return the overlap of nodes that cut tiles."""
    return io.Int.Input(
        "overlap",
        default=64,
        min=0,
        max=512,
        step=8,
        tooltip="Pixels that neighbouring tiles share at least, 0 to 512 and less "
        "than a tile. More hides seams better and takes longer.",
    )


def detail_input() -> Any:
    """Return the noise scale of nodes that restore."""
    return io.Float.Input(
        "detail",
        default=0.0,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        tooltip="Strength of the sampling noise, 0 to 1. 0 takes the most likely "
        "bits: calm and repeatable. 1 samples as the official code does: more "
        "texture, less faithful.",
    )


def fidelity_input() -> Any:
    """Return the pull towards the input of nodes that restore."""
    return io.Float.Input(
        "fidelity",
        default=0.0,
        min=0.0,
        max=20.0,
        step=0.1,
        round=0.001,
        tooltip="Pull of every bit towards the input's, in log-odds, 0 to 20. 0 leaves "
        "the model alone; 1 to 4 calm an inventive one; 20 returns the input as the VAE "
        "sees it.",
    )


def color_match_input(input_id: str = "color_match") -> Any:
    """Return the colour match of nodes that end with a picture."""
    return io.Combo.Input(
        input_id,
        options=list(COLOR_MATCHES),
        default="wavelet",
        tooltip="Takes the colours from the resized source. wavelet: its coarse "
        "colours, local; adain: mean and contrast of each channel; lab: the same in "
        "a perceptual colour space; none: as decoded.",
    )


def cleaner_input() -> Any:
    """Return the optional cleaner of nodes that begin with a picture."""
    return io.UpscaleModel.Input(
        "cleaner",
        optional=True,
        tooltip="A model that removes noise and compression first and keeps the "
        "size, such as general_swinir_v1 from Load Upscale Model. The official "
        "model expects it; the bundled one does not.",
    )


def conditioning_input() -> Any:
    """Return the optional prompt of nodes that restore."""
    return io.Conditioning.Input(
        "conditioning",
        optional=True,
        tooltip="A description of the picture, from CLIP Text Encode with Load "
        "VARestorer Text Encoder. Without it the model uses what it has learned for "
        "no prompt.",
    )
