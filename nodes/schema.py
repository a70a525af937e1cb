"""Schemas that every supported host understands.

An unknown keyword raises while the schema is built and takes the whole pack down with it, so what
newer ComfyUI versions added (`search_aliases`, `advanced`) is passed only where it is known.

Nodes call `io.Schema(node_id="...")` with the id written out: registries find nodes by reading the
source, not by running it.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..varestorer_core.config import recommended_detail
from ..varestorer_core.errors import SettingError
from ..varestorer_core.resize import SIZE_MODES, upscale_for
from ..varestorer_core.settings import SETTINGS, default_of

if TYPE_CHECKING:
    from torch import Tensor

    from .host.model import ModelPatcher

CATEGORY = "image/VARestorer"

AUTO_DETAIL = -1.0
"""Value of `detail` by which the model decides."""

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


def fixed_seed() -> Any:
    """Return what makes a seed keep its value after a run, where the host can say so.

    Older hosts can only say that a seed may change; there `web/js/seed.js` sets it to fixed.
    """
    control = getattr(io, "ControlAfterGenerate", None)
    return True if control is None else control.fixed


def seed_input() -> Any:
    """Return the seed of nodes that restore."""
    return setting_input("seed", control_after_generate=fixed_seed())


def detail_input() -> Any:
    """Return the noise scale of nodes that restore, which the model decides by default."""
    setting = SETTINGS["detail"]
    return io.Float.Input(
        "detail",
        default=AUTO_DETAIL,
        min=AUTO_DETAIL,
        max=setting.high,
        step=setting.step,
        round=0.001,
        tooltip=f"{setting.text} A number {setting.range}, or -1 for automatic: 1 for the official "
        "model, as it was released, and 0 for the bundled one.",
    )


def chosen_detail(model: ModelPatcher, detail: float) -> float:
    """Return the noise scale; below 0 it is what the model of a patcher recommends."""
    return recommended_detail(model.model.config) if detail < 0 else detail


def size_inputs() -> list[Any]:
    """Return the other ways to say how large the result is to be.

    They come last and are optional: prompts from before they existed stay valid.
    """
    return [
        io.Combo.Input(
            "size_by",
            options=list(SIZE_MODES),
            default="factor",
            optional=True,
            tooltip="What decides the size of the result. factor: upscale; megapixels: the number of "
            "its pixels; longer side: its longer side in pixels. The shape stays.",
        ),
        io.Float.Input(
            "megapixels",
            default=4.0,
            min=0.01,
            max=256.0,
            step=0.5,
            round=0.01,
            optional=True,
            tooltip="Millions of pixels of the result, 0.01 to 256. Has an effect only while size_by "
            "is megapixels.",
        ),
        io.Int.Input(
            "longer_side",
            default=2048,
            min=16,
            max=32768,
            step=64,
            optional=True,
            tooltip="Longer side of the result in pixels, 16 to 32768. Has an effect only while "
            "size_by is longer side.",
        ),
    ]


def chosen_upscale(
    image: Tensor, size_by: str, upscale: float, megapixels: float, longer_side: int
) -> float:
    """Return the enlargement of an IMAGE batch (B, H, W, C) by the inputs of `size_inputs`."""
    if size_by == "factor" or image.ndim != 4 or 0 in image.shape:
        return upscale  # such a picture is refused later, with a sentence
    height, width = image.shape[1:3]
    chosen = upscale_for(height, width, size_by, megapixels=megapixels, longer_side=longer_side)
    low, high = SETTINGS["upscale"].low, SETTINGS["upscale"].high
    assert low is not None and high is not None  # noqa: PT018
    if not low <= chosen <= high:
        raise SettingError(
            f"The picture of {width} x {height} pixels would be enlarged {chosen:.3g} times; {low:g} to "
            f"{high:g} times is possible. Choose another size, or restore twice in a row."
        )
    return chosen


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
