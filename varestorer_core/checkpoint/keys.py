"""Conversion of parameter names between the conventions of different files and ours.

Ours are the official names with two simplifications: transformer blocks are numbered consecutively
(`blocks.5.` instead of `block_chunks.1.module.1.`), and the tokenizer's convolutions and norms have
no inner module (`conv1.weight` instead of `conv1.conv.weight`). Constants in files are checked and
dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..errors import CheckpointError


@dataclass(frozen=True)
class Rename:
    """Replacement of a pattern in a parameter's name."""

    pattern: str
    replacement: str

    def __call__(self, name: str) -> str:
        return re.sub(self.pattern, self.replacement, name)


_CONV = r"^(.*\b(?:conv_in|conv_out|conv1|conv2|nin_shortcut|(?:down|up)sample\.conv))"
_NORM = r"^(.*\b(?:norm1|norm2|norm_out))"

# An adapter inserts another `.conv`, so any number of them is removed.
TOKENIZER_TO_OURS = (
    Rename(_CONV + r"(?:\.conv)+\.((?:lora_(?:down|up)\.)?(?:weight|bias))$", r"\1.\2"),
    Rename(_NORM + r"\.norm\.(weight|bias)$", r"\1.\2"),
)
"""From names with inner modules to ours, which pass unchanged."""

TOKENIZER_TO_OFFICIAL = (
    Rename(_CONV + r"\.(weight|bias)$", r"\1.conv.\2"),
    Rename(_NORM + r"\.(weight|bias)$", r"\1.norm.\2"),
)
"""From our names to those with inner modules."""

_CHUNKED = re.compile(r"^block_chunks\.(\d+)\.module\.(\d+)\.(.+)$")
_FLAT = re.compile(r"^blocks\.(\d+)\.(.+)$")
# A key bias that is always zero, and the powers of two of the bit labels.
_ZERO_CONSTANT = re.compile(r"(^|\.)zero_k_bias$")
_CONSTANT = re.compile(r"^quantizer?\.lfq\.mask$")

# Parts of a tokenizer's training losses, which training files keep beside the weights.
_TRAINING_ONLY = re.compile(r"^(?:\w*discriminator\w*|\w*perceptual\w*|lpips|loss)\.")


def apply_renames(name: str, renames: Iterable[Rename]) -> str:
    """Return the name after all renames, in order."""
    for rename in renames:
        name = rename(name)
    return name


def is_chunked(names: Iterable[str]) -> bool:
    """Return whether the blocks are nested in chunks, as in the official files."""
    return any(_CHUNKED.match(name) for name in names)


def is_constant(name: str) -> bool:
    """Return whether a name is that of a buffer that models do not keep."""
    return bool(_ZERO_CONSTANT.search(name) or _CONSTANT.match(name))


def is_text_encoder_key(name: str) -> bool:
    """Return whether a T5 file's tensor belongs to the encoder; its copy of the embedding does not."""
    return name == "shared.weight" or (
        name.startswith("encoder.") and name != "encoder.embed_tokens.weight"
    )


def our_names(names: Iterable[str], kind: str) -> dict[str, str]:
    """Map each name of a file to ours, without constants.

    Args:
        names: as in the file, unwrapped.
        kind: from `identify`; only transformers, adapters and tokenizers are renamed.

    Raises:
        CheckpointError: if two names refer to the same parameter.
    """
    names = list(names)
    if kind in ("transformer", "adapter"):
        mapping = _flatten_chunks(names)
    elif kind == "tokenizer":
        kept = [name for name in names if not _TRAINING_ONLY.match(name)]
        mapping = {name: apply_renames(name, TOKENIZER_TO_OURS) for name in kept}
    elif kind == "text_encoder":
        mapping = {name: name for name in names if is_text_encoder_key(name)}
    else:
        return {name: name for name in names}
    mapping = {name: ours for name, ours in mapping.items() if not is_constant(name)}
    first: dict[str, str] = {}
    for name, ours in mapping.items():
        if ours in first:
            raise CheckpointError(
                f"The file has one parameter twice: {first[ours]!r} and {name!r}. It is damaged."
            )
        first[ours] = name
    return mapping


def rename_tensors(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Return the tensors by our names, without the constants.

    Raises:
        CheckpointError: if a constant does not have its value.
    """
    for name, tensor in tensors.items():
        if _ZERO_CONSTANT.search(name) and not tensor.is_meta and bool(tensor.any()):
            raise CheckpointError(
                f"{name} must be all zero, since key biases are not supported, but it is not. The file is "
                "damaged or from another model."
            )
    return {ours: tensors[name] for name, ours in our_names(tensors, kind).items()}


def chunk_blocks(name: str, blocks_per_chunk: int) -> str:
    """Return the official, chunk-nested name of one of ours; other names pass unchanged."""
    match = _FLAT.match(name)
    if match is None:
        return name
    chunk, module = divmod(int(match[1]), blocks_per_chunk)
    return f"block_chunks.{chunk}.module.{module}.{match[2]}"


def _flatten_chunks(names: list[str]) -> dict[str, str]:
    matches = {name: match for name in names if (match := _CHUNKED.match(name))}
    # All chunks have equally many blocks, so a missing block does not shift the following ones.
    per_chunk = 1 + max((int(match[2]) for match in matches.values()), default=0)
    return {
        name: f"blocks.{int(match[1]) * per_chunk + int(match[2])}.{match[3]}"
        if (match := matches.get(name))
        else name
        for name in names
    }
