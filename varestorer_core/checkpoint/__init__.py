"""Checkpoints: safe reading, identification and loading.

`read_checkpoint` opens a file, `identify` determines its kind by keys and shapes, `load_transformer`
and `load_tokenizer` build the network, `convert` and `save_safetensors` write self-describing files. Adapters are in
the package `lora`.
"""

from ..models.layers import CastLayers
from .examine import FileReport, examine, verify
from .files import read_checkpoint
from .identify import CheckpointInfo, identify
from .load import load_tokenizer, load_transformer
from .save import convert, save_safetensors
from .state_dict import unwrap

__all__ = [
    "CastLayers",
    "CheckpointInfo",
    "FileReport",
    "convert",
    "examine",
    "identify",
    "load_tokenizer",
    "load_transformer",
    "read_checkpoint",
    "save_safetensors",
    "unwrap",
    "verify",
]
