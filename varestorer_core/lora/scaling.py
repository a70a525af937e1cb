"""The scale of an adapter that PEFT or diffusers wrote: alpha / rank, told beside the tensors instead of among them.

PEFT writes it into adapter_config.json in the same folder, diffusers into the metadata of the safetensors file. Without
it the factors would be applied at another strength than they were trained at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import json_text
from ..errors import CheckpointError
from ..wording import shown

PEFT_CONFIG = "adapter_config.json"
"""Name of PEFT's file, and of its content among the metadata that `read_checkpoint` returns."""
_DIFFUSERS = "lora_adapter_metadata"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of the files that PEFT saves."""
_NAMES = re.compile(r"[\w.\\^$|-]*")
"""Regular expressions that are read: names and alternatives. Repetitions of a stranger could take forever to match."""
_LARGEST = 1 << 20
"""Bytes of a configuration at most; PEFT's have a few hundred."""


@dataclass(frozen=True)
class Scaling:
    """How an adapter's factors are scaled."""

    alpha: float
    alphas: Mapping[str, float] = field(default_factory=dict)
    """Of modules that differ, by a regular expression for the end of their names."""
    by_root: bool = False
    """alpha / sqrt(rank) (rsLoRA) instead of alpha / rank."""

    def factor(self, owner: str, rank: int) -> float:
        """Return what the correction of a module is multiplied by."""
        alpha = next(
            (value for end, value in self.alphas.items() if re.match(rf"(.*\.)?({end})$", owner)),
            self.alpha,
        )
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def peft_config(path: Path) -> dict[str, str]:
    """Return, as metadata, the configuration that PEFT keeps beside its weights; nothing where there is none.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    config = path.with_name(PEFT_CONFIG)
    if path.name not in PEFT_WEIGHTS or not config.exists():
        return {}
    if not config.is_file() or config.stat().st_size > _LARGEST:
        raise CheckpointError(f"{config} is not a configuration of PEFT. Save the adapter again.")
    return {PEFT_CONFIG: config.read_text("utf-8", errors="replace")}


def scaling_of(metadata: Mapping[str, str]) -> Scaling | None:
    """Return the scale that a file's metadata tell; None if they tell none.

    Raises:
        CheckpointError: if it is damaged, or of a kind of adapter that is no plain LoRA.
    """
    text = metadata.get(PEFT_CONFIG) or metadata.get(_DIFFUSERS)
    if text is None:
        return None
    try:
        loaded = json_text.loads(text)
        if not isinstance(loaded, dict):
            raise ValueError(f"a {type(loaded).__name__}")
        values = _without_prefix(loaded)
        kind = values.get("peft_type", "LORA")
        if kind != "LORA" or values.get("use_dora"):
            kind = "DORA" if kind == "LORA" else kind
            raise CheckpointError(
                f"the adapter is of PEFT's type {shown(kind)}; only plain LoRA is supported. Merge it into its base "
                "with PEFT, or train a LoRA."
            )
        if values.get("lora_alpha") is None:
            return None
        alphas = dict(values.get("alpha_pattern") or {})
        for end in alphas:
            if not _NAMES.fullmatch(end):
                raise ValueError(f"alpha_pattern names modules by {end!r}")
            re.compile(end)
        return Scaling(
            _finite(values["lora_alpha"]),
            {str(end): _finite(alpha) for end, alpha in alphas.items()},
            bool(values.get("use_rslora")),
        )
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, re.error, OverflowError) as error:
        raise CheckpointError(
            f"the adapter's configuration is damaged ({shown(error)}). Save the adapter again."
        ) from error


def _without_prefix(values: dict[str, Any]) -> dict[str, Any]:
    """Return diffusers' values without the name of the network that it puts before each."""
    return {
        str(key).removeprefix("transformer.").removeprefix("unet."): v for key, v in values.items()
    }


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"an alpha of {number}")
    return number
