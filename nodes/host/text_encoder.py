"""flan-t5-xl as a native CLIP.

ComfyUI's loader identifies flan-t5-xl as the T5 of another model (with another tokenizer and other position biases)
and silently computes wrong features, so the pack has its own loader. Shapes are inferred from the file: any encoder of
the T5 v1.1 family works (gated feed-forward, position biases in the first block only).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import comfy.sd1_clip
import comfy.text_encoders.t5
import torch

from ...varestorer_core.errors import CheckpointError
from ...varestorer_core.official_files import FLAN_T5_XL
from .files import read_model

TEXT_ENCODER_FOLDER = "text_encoders"

_NAME = "flan_t5"
_FIRST_BLOCK = "encoder.block.0.layer."


def load_clip(name: str) -> comfy.sd.CLIP:
    """Return the CLIP of a menu entry.

    Raises:
        CheckpointError: if the file is not the encoder of a flan-t5 model.
    """
    from ...varestorer_core.checkpoint import identify, unwrap
    from ...varestorer_core.checkpoint.keys import is_text_encoder_key

    state_dict, metadata = read_model(TEXT_ENCODER_FOLDER, name)
    tensors = unwrap(state_dict, "text_encoder", name=name)
    info = identify(tensors, metadata)
    if info.kind != "text_encoder":
        raise CheckpointError(_wrong_file(name, f"it is {info.description}"))
    weights = {key: tensor for key, tensor in tensors.items() if is_text_encoder_key(key)}
    if "shared.weight" not in weights and "encoder.embed_tokens.weight" in tensors:
        weights["shared.weight"] = tensors["encoder.embed_tokens.weight"]
    config = _config(weights, name)

    class Model(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):  # noqa: ANN001
            super().__init__(
                device=device,
                dtype=dtype,
                model_options=model_options or {},
                name=_NAME,
                clip_model=lambda **options: _encoder(dict(config), **options),
            )

    class Target:
        params: dict[str, Any] = {}  # noqa: RUF012 - the host copies it
        clip = Model
        tokenizer = _Tokenizer

    parameters = sum(tensor.numel() for tensor in weights.values())
    return comfy.sd.CLIP(Target, parameters=parameters, state_dict=[weights])


def _config(weights: dict[str, torch.Tensor], name: str) -> dict[str, Any]:
    """Infer the encoder's shape from its weights."""
    try:
        vocabulary, width = weights["shared.weight"].shape
        bias = weights[_FIRST_BLOCK + "0.SelfAttention.relative_attention_bias.weight"]
        inner = weights[_FIRST_BLOCK + "0.SelfAttention.q.weight"].shape[0]
        hidden = weights[_FIRST_BLOCK + "1.DenseReluDense.wi_1.weight"].shape[0]
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(_wrong_file(name, f"it lacks {error}")) from error
    blocks = {int(key.split(".")[2]) for key in weights if key.startswith("encoder.block.")}
    expected = {f"encoder.block.{i}.layer.1.DenseReluDense.wo.weight" for i in range(len(blocks))}
    absent = sorted(expected - weights.keys())
    other = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight" in weights
    if absent or other or "encoder.final_layer_norm.weight" not in weights:
        problem = "it has position biases in every block" if other else "parts of it are missing"
        raise CheckpointError(_wrong_file(name, problem))
    heads = bias.shape[1]
    return {
        "d_ff": hidden,
        "d_kv": inner // heads,
        "d_model": width,
        "num_heads": heads,
        "num_layers": len(blocks),
        "vocab_size": vocabulary,
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
        "model_type": "t5",
    }


def _wrong_file(name: str, problem: str) -> str:
    return (
        f"{name} is not the encoder of flan-t5-xl ({problem}). Use the safetensors files: "
        f"{FLAN_T5_XL.source}. Of a split model, keep all parts in one folder."
    )


def _encoder(
    config: dict[str, Any],
    device: Any = "cpu",
    dtype: torch.dtype | None = None,
    model_options: dict | None = None,
) -> comfy.sd1_clip.SDClipModel:
    return comfy.sd1_clip.SDClipModel(
        device=device,
        dtype=dtype,
        textmodel_json_config=config,
        special_tokens={"end": 1, "pad": 0},
        model_class=comfy.text_encoders.t5.T5,
        enable_attention_masks=True,
        return_attention_masks=True,
        model_options=model_options or {},
    )


class _T5Tokenizer(comfy.sd1_clip.SDTokenizer):
    """The host's T5 vocabulary, without padding and prompt weights, truncated to the model's maximum length."""

    def __init__(self, tokenizer_data: dict | None = None, **_: Any):
        # The host also passes a folder of embeddings, which belong to other text encoders.
        from transformers import T5TokenizerFast  # pyright: ignore[reportMissingImports]

        folder = Path(comfy.text_encoders.t5.__file__).parent / "t5_tokenizer"
        super().__init__(
            str(folder),
            pad_with_end=False,
            tokenizer_class=T5TokenizerFast,
            has_start_token=False,
            pad_to_max_length=False,
            max_length=99999999,
            min_length=1,
            embedding_key=_NAME,
            disable_weights=True,
            tokenizer_data=tokenizer_data or {},
        )

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **options: Any
    ) -> list:
        """Return one row of at most 512 (token, weight) pairs that ends with the end token."""
        from ...varestorer_core.text_encoder import MAX_TOKENS

        options["disable_weights"] = True  # the model was trained on plain prompts
        rows = super().tokenize_with_weights(text, return_word_ids, **options)
        return [
            row if len(row) <= MAX_TOKENS else [*row[: MAX_TOKENS - 1], row[-1]] for row in rows
        ]


class _Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    def __init__(self, tokenizer_data: dict | None = None, **_: Any):
        super().__init__(tokenizer_data=tokenizer_data or {}, name=_NAME, tokenizer=_T5Tokenizer)
