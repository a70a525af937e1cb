"""Schemas that every supported host understands.

An unknown keyword raises while the schema is built and takes the whole pack down with it, so what
newer ComfyUI versions added (`search_aliases`, `advanced`) is passed only where it is known.

Nodes call `io.Schema(node_id="...")` with the id written out: registries find nodes by reading the
source, not by running it.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from comfy_api.latest import io

from ..varestorer_core.settings import SETTINGS, default_of

CATEGORY = "image/VARestorer"

_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def where_known(**fields: Any) -> dict[str, Any]:
    """Return those of the schema fields that this host knows."""
    return {name: value for name, value in fields.items() if name in _SCHEMA_FIELDS}


def expert(input_class: Any, input_id: str, **fields: Any) -> Any:
    """Return an input that the host folds away among the advanced ones.

    It is optional: a prompt that was written before the input existed stays valid.
    """
    return input_class(input_id, **fields, **_folded_away(input_class))


def _folded_away(input_class: Any) -> dict[str, Any]:
    """Return the fields that make an input an advanced one."""
    if "advanced" in inspect.signature(input_class.__init__).parameters:
        return {"optional": True, "advanced": True}
    # ComfyUI before 0.10: its front end reads the same flag from the options.
    return {"optional": True, "extra_dict": {"advanced": True}}


def setting_input(name: str, input_id: str | None = None, **fields: Any) -> Any:
    """Return the input of one setting of a restoration, with its range, default and text.

    Args:
        input_id: where the node calls it something else.
        **fields: what the schema adds, such as `optional` or `control_after_generate`.
    """
    setting, default = SETTINGS[name], default_of(name)
    input_id = input_id or name
    if setting.choices:
        return io.Combo.Input(
            input_id, options=list(setting.choices), default=default, tooltip=setting.text, **fields
        )
    text = f"{setting.text} A number {setting.range}."
    if isinstance(default, int):
        kind, number = io.Int.Input, int
    else:
        kind, number = io.Float.Input, float
        fields["round"] = 0.001
    assert setting.low is not None and setting.high is not None  # noqa: PT018
    if setting.step is not None:
        fields["step"] = number(setting.step)
    return kind(
        input_id,
        default=default,
        min=number(setting.low),
        max=int(setting.high) if number is int else setting.high,
        tooltip=text,
        **fields,
    )


def tile_batch_input() -> Any:
    """Return the input that the three tile-wise nodes share."""
    return setting_input("tile_batch", **_folded_away(io.Int.Input))


def seed_input() -> Any:
    """Return the seed of nodes that restore."""
    return setting_input("seed", control_after_generate=True)


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
