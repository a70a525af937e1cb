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
        tooltip="Tiles per pass, 0 to 64. 0 chooses by free memory. More is faster on a big GPU "
        "and needs more memory; the number is halved when memory runs out.",
    )
