"""Identification of checkpoints by keys and shapes, never by file name.

Also works on meta tensors, so a file can be identified before it is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..config import TokenizerConfig, TransformerConfig, transformer_config
from ..errors import CheckpointError
from ..lora.factors import LORA_SUFFIXES, V_BIAS_RULE, adapter_rank
from ..official_files import CLEANER, FLAN_T5_XL, TOKENIZER, VARESTORER
from ..wording import shown
from .deduce import declared_values, deduce_tokenizer, deduce_transformer
from .files import damage_named
from .keys import is_chunked, is_constant, our_names

# A kind applies if every pattern of `has` is found in some key and none of `lacks` in any.
_SIGNATURES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("transformer", (r"^(block_chunks\.\d+\.module|blocks)\.\d+\.ada_gss$",), ()),
    (
        "adapter",
        (
            r"^(block_chunks\.\d+\.module|blocks)\.\d+\.([sc]a\.\w+|ffn\.fc[12])\.lora_down\.weight$",
        ),
        (r"^(?!.*\.lora_(down|up)\.weight$)",),
    ),
    (
        "tokenizer",
        (r"^encoder\.down\.\d+\.block\.\d+\.conv1\.", r"^decoder\.up\.\d+\.block\.\d+\.conv1\."),
        (r"\.attn_1\.", r"quant_conv\."),
    ),
    (
        "cleaner",
        (
            r"^layers\.\d+\.residual_group\.blocks\.\d+\.attn\.qkv\.weight$",
            r"^conv_after_body\.weight$",
        ),
        (),
    ),
    ("text_encoder", (r"^encoder\.block\.\d+\.layer\.0\.SelfAttention\.q\.weight$",), ()),
)

# Other files, described by the first pattern found in any key.
_STRANGERS: tuple[tuple[str, str], ...] = (
    (r"^lora_(unet|te)|\.lora\.(down|up)\.", "a LoRA of a diffusion model"),
    (r"\.lora_[AB]\.|\.lora_(down|up)\.weight$", "a LoRA of another model"),
    (r"^model\.diffusion_model\.", "a diffusion model's checkpoint (Stable Diffusion or similar)"),
    (
        r"^(double_blocks|joint_blocks|transformer_blocks|diffusion_model|single_blocks)\.",
        "a diffusion transformer (Flux, SD3 or similar)",
    ),
    (r"^(down_blocks|input_blocks|control_model)\.", "a diffusion U-Net or ControlNet"),
    (r"quant_conv\.|\.mid(_block)?\.attn", "a VAE of a diffusion model"),
    (r"text_model\.encoder\.|^transformer\.resblocks\.", "a CLIP text encoder"),
    (r"^model\.layers\.\d+\.self_attn\.", "a language model"),
    (r"^(body\.\d+\.rdb|RRDB_trunk|model\.1\.sub)", "an ESRGAN upscaler"),
    (r"\.residual_group\.|^layers\.\d+\.blocks\.", "an upscaler"),
)

_ARTICLES = {
    "transformer": "a VARestorer transformer",
    "tokenizer": "a visual tokenizer (VAE)",
    "text_encoder": "a T5 text encoder",
    "cleaner": "a cleaner (SwinIR)",
    "adapter": "a VARestorer adapter",
}
SOURCES = {
    "transformer": VARESTORER.source,
    "tokenizer": TOKENIZER.source,
    "text_encoder": FLAN_T5_XL.source,
    "cleaner": CLEANER.source,
    "adapter": "one that `varestorer convert --adapter-only` wrote",
}
"""The file to use instead, for each kind."""


@dataclass(frozen=True)
class Counts:
    """Element counts of a checkpoint; constants that models do not keep are not parameters."""

    tensors: int
    parameters: int
    lora: int
    """Number of parameters that belong to low-rank adapters."""


@dataclass(frozen=True)
class CheckpointInfo:
    """Result of `identify`."""

    kind: str
    """transformer, tokenizer, text_encoder, cleaner, adapter or unknown."""
    layout: str
    """Spelling of the keys: "chunked" or "flat" blocks of a transformer, "module" or "flat" names
    of a tokenizer, "encoder" or "encoder+decoder" of a text encoder, else "plain"; "+lora" with
    adapters."""
    description: str
    """The kind in words, such as "a visual tokenizer (VAE)"."""
    config: TransformerConfig | TokenizerConfig | None
    """Configuration of a transformer or tokenizer, or of the transformer that an adapter of ours fits."""
    dtypes: dict[str, int]
    """Number of elements by dtype, most frequent first."""
    counts: Counts
    details: dict[str, Any] = field(default_factory=dict)
    """More facts, depending on the kind."""
    problems: tuple[str, ...] = ()
    """Sentences about why the checkpoint cannot be used."""

    @property
    def dtype(self) -> str:
        """The most frequent dtype, such as "bfloat16"."""
        return next(iter(self.dtypes), "none")


def identify(
    state_dict: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> CheckpointInfo:
    """Identify a state dict.

    Args:
        state_dict: bare tensors (see `unwrap`), of any device.
        metadata: of a safetensors file.
    """
    metadata = metadata or {}
    names = list(state_dict)
    kind = _kind(names)
    config, details, problems = None, {}, ()
    try:
        with damage_named("The file"):
            config, details, problems = _facts(names, kind, state_dict, metadata)
    except CheckpointError as error:
        problems = (str(error),)
    return CheckpointInfo(
        kind=kind,
        layout=_layout(names, kind),
        description=_describe(names, kind),
        config=config,
        dtypes=_dtypes(state_dict),
        counts=_counts(state_dict, kind),
        details=details,
        problems=problems,
    )


def _facts(
    names: list[str], kind: str, state_dict: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[TransformerConfig | TokenizerConfig | None, dict[str, Any], tuple[str, ...]]:
    """Return the configuration, more facts and problems of a checkpoint of a kind."""
    mapping = our_names(names, kind)
    shapes = {ours: tuple(state_dict[name].shape) for name, ours in mapping.items()}
    if kind == "transformer":
        return deduce_transformer(shapes, metadata), {}, ()
    if kind == "tokenizer":
        return deduce_tokenizer(shapes, metadata), {}, ()
    if kind == "adapter":
        return *_adapter_facts(shapes, metadata), ()
    if kind == "text_encoder":
        return None, _text_encoder_facts(shapes), ()
    if kind == "cleaner":
        return None, {"width": shapes["conv_after_body.weight"][0]}, ()
    return None, {}, (f"It is {_describe(names, kind)}, which VARestorer cannot use.",)


def describe_kind(kind: str) -> str:
    """Return a description of a kind, with its article."""
    return _ARTICLES[kind]


def _kind(names: list[str]) -> str:
    for kind, has, lacks in _SIGNATURES:
        if all(_any(pattern, names) for pattern in has) and not any(_any(p, names) for p in lacks):
            return kind
    return "unknown"


def _describe(names: list[str], kind: str) -> str:
    if kind in _ARTICLES:
        return _ARTICLES[kind]
    for pattern, words in _STRANGERS:
        if _any(pattern, names):
            return words
    return f"an unknown kind of checkpoint (first keys: {', '.join(map(shown, names[:3]))})"


def _layout(names: list[str], kind: str) -> str:
    lora = "+lora" if kind != "adapter" and any(n.endswith(LORA_SUFFIXES) for n in names) else ""
    if kind in ("transformer", "adapter"):
        return ("chunked" if is_chunked(names) else "flat") + lora
    if kind == "tokenizer":
        return ("module" if _any(r"\.norm\d\.norm\.", names) else "flat") + lora
    if kind == "text_encoder":
        return "encoder+decoder" if _any(r"^decoder\.", names) else "encoder"
    return "plain"


def _adapter_facts(
    shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]
) -> tuple[TransformerConfig | None, dict[str, Any]]:
    values = declared_values(metadata)
    rule = metadata.get("varestorer.v_bias", V_BIAS_RULE)
    if rule != V_BIAS_RULE:
        raise CheckpointError(
            f"The adapter's v_bias rule is {rule!r}, expected {V_BIAS_RULE!r}. It was written by a "
            "newer version; update VARestorer."
        )
    details = {
        "rank": adapter_rank(shapes),
        "modules": sum(name.endswith(".lora_up.weight") for name in shapes),
        "v_bias": rule,
    }
    return (transformer_config(values) if values else None), details


def _text_encoder_facts(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    query = r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.q\.weight$"
    widths = {int(m[1]): shapes[name][-1] for name in shapes if (m := re.match(query, name))}
    return {"layers": 1 + max(widths), "width": max(widths.values())}


def _dtypes(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    counter: Counter[torch.dtype] = Counter()
    for tensor in state_dict.values():
        counter[tensor.dtype] += tensor.numel()
    return {str(dtype).removeprefix("torch."): n for dtype, n in counter.most_common()}


def _counts(state_dict: Mapping[str, Tensor], kind: str) -> Counts:
    recomputable = r"\.(relative_position_index|attn_mask)$" if kind == "cleaner" else r"(?!)"
    parameters = lora = 0
    for name, tensor in state_dict.items():
        if is_constant(name) or re.search(recomputable, name):
            continue
        parameters += tensor.numel()
        lora += tensor.numel() if name.endswith(LORA_SUFFIXES) else 0
    return Counts(tensors=len(state_dict), parameters=parameters, lora=lora)


def _any(pattern: str, names: list[str]) -> bool:
    return any(re.search(pattern, name) for name in names)
