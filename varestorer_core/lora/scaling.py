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
from ..regular import check_regular
from ..wording import shown

PEFT_CONFIG = "adapter_config.json"
"""Name of PEFT's file, and the key of its content in the metadata that `read_checkpoint` returns."""
_DIFFUSERS = "lora_adapter_metadata"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of the files that PEFT saves."""
_NAME = re.compile(r"\^?(?:[\w.-]|\\[^\w\s])*\$?")
"""A name in a regular expression; characters other than letters and digits may be escaped. Untrusted repetitions could
take forever to match."""
_LARGEST = 1 << 20
"""Maximum number of bytes of a configuration; PEFT's have a few hundred."""
_MOST_NAMES = 5_000
"""Maximum number of names in alpha_pattern; the largest supported network has a few hundred modules."""
_LONGEST_NAME = 200
"""Maximum number of characters of such a name."""


@dataclass(frozen=True)
class Alphas:
    """The alphas of modules that differ, by name. Looking one up takes no longer the more there are."""

    ends: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """Position in the file and alpha, by the last parts of the modules' names."""
    whole: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    """The same by whole names."""

    def of(self, owner: str) -> float | None:
        """Return the alpha of a module, by the first entry that names it; None if none does."""
        found = [self.whole[owner]] if owner in self.whole else []
        start = len(owner)
        while start > 0 and len(owner) - start <= _LONGEST_NAME:
            start = owner.rfind(".", 0, start)  # -1 for the whole name
            end = owner[start + 1 :]
            if end in self.ends:
                found.append(self.ends[end])
        return min(found)[1] if found else None


@dataclass(frozen=True)
class Scaling:
    """Scale of an adapter's factors."""

    alpha: float
    alphas: Alphas = field(default_factory=Alphas)
    """Of modules that differ."""
    by_root: bool = False
    """alpha / sqrt(rank) (rsLoRA) instead of alpha / rank."""

    def factor(self, owner: str, rank: int) -> float:
        """Return the factor for the correction of a module."""
        own = self.alphas.of(owner)
        alpha = self.alpha if own is None else own
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def peft_config(path: Path) -> dict[str, str]:
    """Return PEFT's configuration beside its weights as metadata; empty if there is none.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    config = path.with_name(PEFT_CONFIG)
    if path.name not in PEFT_WEIGHTS or not config.exists():
        return {}
    check_regular(config, CheckpointError)
    if config.stat().st_size > _LARGEST:
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
        if len(text) > _LARGEST:
            raise ValueError(f"it has {len(text):,} characters")
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
        return Scaling(
            _finite(values["lora_alpha"]),
            _alphas(dict(values.get("alpha_pattern") or {})),
            bool(values.get("use_rslora")),
        )
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise CheckpointError(
            f"The adapter's configuration is damaged ({shown(error)}). Save the adapter again."
        ) from error


def _alphas(patterns: dict[str, Any]) -> Alphas:
    """Return the alphas by the names that the keys of alpha_pattern list.

    PEFT matches each key as a regular expression with the end of a module's name. Here, a key may be a name or several
    with "|" between, which need no regular expression: a file's own could take forever.
    """
    ends: dict[str, tuple[int, float]] = {}
    whole: dict[str, tuple[int, float]] = {}
    if sum(1 + key.count("|") for key in patterns) > _MOST_NAMES:
        raise CheckpointError(
            f"The adapter's configuration has more than {_MOST_NAMES:,} names in alpha_pattern, more than any model "
            "has modules. Save the adapter again."
        )
    for position, (key, value) in enumerate(patterns.items()):
        alpha = _finite(value)
        for name in key.split("|"):
            if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
                raise CheckpointError(
                    f"The adapter's configuration names modules by {shown(repr(name))} in alpha_pattern; only names, "
                    'or several with "|" between, are supported. Write the names of the modules in full, or merge the '
                    "adapter into its base with PEFT."
                )
            plain = re.sub(r"\\(.)", r"\1", name.removeprefix("^").removesuffix("$"))
            (whole if name.startswith("^") else ends).setdefault(plain, (position, alpha))
    return Alphas(ends, whole)


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
