"""Schema helpers that work with every supported host.

An unknown keyword raises an error while the schema is built, and the whole pack fails to load. Fields of newer ComfyUI
versions (`search_aliases`, `advanced`) are therefore passed only if the host supports them.

Nodes call `io.Schema(node_id="...")` with a literal id, because registries find nodes by parsing the source.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..varestorer_core.errors import SettingError
from ..varestorer_core.resize import SIZE_MODES, upscale_for
from ..varestorer_core.settings import SETTINGS, default_of

if TYPE_CHECKING:
    from torch import Tensor

CATEGORY = "image/VARestorer"

_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


def where_known(**fields: Any) -> dict[str, Any]:
    """Return the schema fields that this host supports."""
    return {name: value for name, value in fields.items() if name in _SCHEMA_FIELDS}


def expert(input_class: Any, input_id: str, **fields: Any) -> Any:
    """Return an input that the host shows among the advanced ones.

    It is optional, so prompts from before the input existed stay valid.
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
        input_id: name of the input, if it differs from the setting's.
        **fields: further fields of the input, such as `optional` or `control_after_generate`.
    """
    setting, default = SETTINGS[name], default_of(name)
    input_id = input_id or name
    if setting.choices:
        return io.Combo.Input(
            input_id, options=list(setting.choices), default=default, tooltip=setting.text, **fields
        )
    text = f"{setting.text} Values: {setting.range}."
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
    """Return the `tile_batch` input of the nodes that process tiles."""
    return setting_input("tile_batch", **_folded_away(io.Int.Input))


def fixed_seed() -> Any:
    """Return the field that keeps a seed fixed after a run, if the host supports it.

    Older ComfyUI versions have only a flag that a seed may change; there `web/js/seed.js` sets it to fixed.
    """
    control = getattr(io, "ControlAfterGenerate", None)
    return True if control is None else control.fixed


def seed_input() -> Any:
    """Return the seed input of nodes that restore."""
    return setting_input("seed", control_after_generate=fixed_seed())


def size_inputs() -> list[Any]:
    """Return the inputs that set the size of the result in other ways than `upscale`.

    They come last and are optional, so prompts from before they existed stay valid.
    """
    return [
        io.Combo.Input(
            "size_by",
            options=list(SIZE_MODES),
            default="factor",
            optional=True,
            tooltip="How the size of the result is set. factor: by upscale; megapixels: by its "
            "number of pixels; longer side: by its longer side in pixels. The aspect "
            "ratio is kept.",
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
        return upscale  # a later check reports an error
    height, width = image.shape[1:3]
    chosen = upscale_for(height, width, size_by, megapixels=megapixels, longer_side=longer_side)
    low, high = SETTINGS["upscale"].low, SETTINGS["upscale"].high
    assert low is not None and high is not None  # noqa: PT018
    if not low <= chosen <= high:
        raise SettingError(
            f"The picture of {width} x {height} pixels would be enlarged {chosen:.3g} times, but "
            f"the factor must be between {low:g} and {high:g}. Choose another size, or restore "
            "twice in a row."
        )
    return chosen


def cleaner_input() -> Any:
    """Return the optional cleaner of nodes that begin with a picture."""
    return io.UpscaleModel.Input(
        "cleaner",
        optional=True,
        tooltip="A model that first removes noise and compression artifacts and keeps the size, "
        "such as general_swinir_v1 from Load Upscale Model. The official model needs it; "
        "the bundled one does not.",
    )


def conditioning_input() -> Any:
    """Return the optional prompt of nodes that restore."""
    return io.Conditioning.Input(
        "conditioning",
        optional=True,
        tooltip="A description of the picture, from CLIP Text Encode with Load VARestorer Text "
        "Encoder. Without it, the model uses its learned unconditional embedding.",
    )
