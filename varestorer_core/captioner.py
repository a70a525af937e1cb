"""Captions of pictures by a local captioning model, using Hugging Face transformers.

Only used outside ComfyUI, where a node of the user's choice writes captions. Files are only read from a local folder:
nothing is downloaded, no code in the folder is run, and weights are only read from safetensors files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from . import json_text
from .checkpoint.check import is_finite
from .checkpoint.files import check_file, damage_named
from .errors import CheckpointError, VARestorerError
from .pictures import to_uint8
from .wording import shown

_ADVICE = (
    "Expected a copy of Salesforce/blip-image-captioning-large or florence-community/Florence-2-base (configuration, "
    "tokenizer and weights as safetensors)."
)


class Captioner:
    """A captioning model with its processor."""

    def __init__(self, processor: Any, model: Any, task: str | None, limit: dict[str, int]):
        self.processor, self.model = processor, model
        self._task, self._limit = task, limit

    @torch.inference_mode()
    def describe(self, rgb: Tensor) -> str:
        """Return the caption of a picture (3, H, W) in [0, 1], on one line; it may be empty.

        Captions are the most likely words, without sampling and without a text to begin from.
        """
        picture = Image.fromarray(to_uint8(rgb))
        text = {} if self._task is None else {"text": self._task}
        inputs = self.processor(images=picture, return_tensors="pt", **text).to(self.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        tokens = self.model.generate(**inputs, do_sample=False, **self._limit)
        return " ".join(self.processor.decode(tokens[0], skip_special_tokens=True).split())


_KINDS: dict[str, tuple[str, str | None, dict[str, int]]] = {
    "blip": ("BlipForConditionalGeneration", None, {"max_length": 20}),
    "florence2": ("Florence2ForConditionalGeneration", "<CAPTION>", {"max_new_tokens": 64}),
}
"""Class, task and maximum length by the type in config.json. That of BLIP is what transformers uses without a limit."""


def check_captioner(folder: str | Path) -> str:
    """Return the type of the model in a folder, by its configuration.

    Raises:
        CheckpointError: if it is not a supported captioning model with safetensors files.
    """
    folder = Path(folder)
    try:
        values = json_text.read(folder / "config.json")
        found = values.get("model_type") if isinstance(values, dict) else None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is not a folder with a config.json. {_ADVICE}") from error
    if not isinstance(found, str) or found not in _KINDS:
        raise CheckpointError(
            f"{folder} holds a model of type {shown(repr(found))}; expected one of {', '.join(_KINDS)}. {_ADVICE}"
        )
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{folder} has no safetensors file, and captioners are not loaded from others. {_ADVICE}"
        )
    return found


def load_captioner(
    folder: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Captioner:
    """Load a captioning model from a folder in the Hugging Face layout.

    Raises:
        CheckpointError: if the folder is not a complete captioning model of a supported type.
        VARestorerError: if transformers cannot be imported.
    """
    folder = Path(folder)
    name, task, limit = _KINDS[check_captioner(folder)]
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise VARestorerError(
            f"--captioner needs the package transformers, which cannot be imported ({shown(error)}). "
            "Run: pip install transformers sentencepiece"
        ) from error
    cls = getattr(transformers, name, None)
    if cls is None:
        raise VARestorerError(
            f"{folder} needs a newer transformers: {transformers.__version__} has no {name}."
        )
    safely = {"local_files_only": True, "trust_remote_code": False}
    said = transformers.utils.logging
    verbosity = said.get_verbosity()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        with damage_named(str(folder), _ADVICE):
            for file in folder.glob("*.safetensors"):
                check_file(file)
            processor = transformers.AutoProcessor.from_pretrained(folder, **safely)
            model, found = cls.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **safely
            )
    finally:
        said.set_verbosity(verbosity)
        said.enable_progress_bar()
    _check_weights(folder, model, found)
    model.eval().requires_grad_(False).to(device, dtype)
    return Captioner(processor, model, task, limit)


def _check_weights(folder: Path, model: Any, found: dict[str, Any]) -> None:
    """Reject weights that transformers would replace by random ones, and invalid values."""
    absent = [*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])]
    if absent:
        raise CheckpointError(
            f"{folder} does not fit its config.json: {shown(absent[0])} is missing or has another shape. {_ADVICE}"
        )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not is_finite(tensor):
            raise CheckpointError(f"{folder} has NaN or infinite values in {key}. {_ADVICE}")
