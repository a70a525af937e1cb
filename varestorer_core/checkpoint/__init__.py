"""Checkpoints: reading files safely, saying what they are, and turning them into networks.

`read_checkpoint` opens a file, `identify` says what it is by keys and shapes, `load_transformer`
and `load_tokenizer` build the network, `convert` and `save_safetensors` write files that describe
themselves. Adapters are in the package `lora`.
"""

from ..models.layers import CastLayers
from .convert import convert
from .examine import Report, examine, verify
from .files import read_checkpoint, unwrap
from .identify import CheckpointInfo, identify
from .load import load_tokenizer, load_transformer
from .save import save_safetensors

__all__ = [
    "CastLayers",
    "CheckpointInfo",
    "Report",
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
