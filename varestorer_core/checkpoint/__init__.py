"""Checkpoints: reading files safely, saying what they are, and turning them into networks.

`read_checkpoint` opens a file, `identify` says what it is by keys and shapes, `load_transformer`
and `load_tokenizer` build the network, `convert` and `save_safetensors` write files that describe
themselves.
"""

from .adapter import join_adapter, merge_adapter, split_adapter, text_biases
from .adapter_file import load_adapter
from .apply import apply_adapter
from .cast_layers import CastLayers
from .convert import convert
from .examine import Report, examine
from .files import read_checkpoint
from .identify import CheckpointInfo, identify
from .load import load_tokenizer, load_transformer
from .save import save_safetensors
from .unwrap import unwrap

__all__ = [
    "CastLayers",
    "CheckpointInfo",
    "Report",
    "apply_adapter",
    "convert",
    "examine",
    "identify",
    "join_adapter",
    "load_adapter",
    "load_tokenizer",
    "load_transformer",
    "merge_adapter",
    "read_checkpoint",
    "save_safetensors",
    "split_adapter",
    "text_biases",
    "unwrap",
]
