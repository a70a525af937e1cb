"""The scale alpha / rank of an adapter from PEFT or diffusers, which is stored beside the tensors.

PEFT writes it into adapter_config.json in the same folder, diffusers into the metadata of the safetensors file. Without
it, the factors would be applied at another strength than in training.
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
"""Name of PEFT's file, and the key of its content in the metadata that `read_checkpoint` returns."""
_DIFFUSERS = "lora_adapter_metadata"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of the files that PEFT saves."""
_NAMES = re.compile(r"[\w.\\^$|-]*")
"""Accepted regular expressions: names and alternatives. Untrusted repetitions could take forever to match."""
_LARGEST = 1 << 20
"""Maximum number of bytes of a configuration; PEFT's have a few hundred."""


@dataclass(frozen=True)
class Scaling:
    """Scale of an adapter's factors."""

    alpha: float
    alphas: Mapping[str, float] = field(default_factory=dict)
    """Of modules that differ, by a regular expression for the end of their names."""
    by_root: bool = False
    """alpha / sqrt(rank) (rsLoRA) instead of alpha / rank."""

    def factor(self, owner: str, rank: int) -> float:
        """Return the factor for the correction of a module."""
        alpha = next(
            (value for end, value in self.alphas.items() if re.match(rf"(.*\.)?({end})$", owner)),
            self.alpha,
        )
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def peft_config(path: Path) -> dict[str, str]:
    """Return PEFT's configuration beside its weights as metadata; empty if there is none.

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
    """Return the scale in a file's metadata; None if there is none.

    Raises:
        CheckpointError: if it is damaged, or the adapter is not a plain LoRA.
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
                f"The adapter is of PEFT's type {shown(kind)}; only plain LoRA is supported. Merge it into its base "
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
            f"The adapter's configuration is damaged ({shown(error)}). Save the adapter again."
        ) from error


def _without_prefix(values: dict[str, Any]) -> dict[str, Any]:
    """Return diffusers' values without the prefix with the name of the network."""
    return {
        str(key).removeprefix("transformer.").removeprefix("unet."): v for key, v in values.items()
    }


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"an alpha of {number}")
    return number
