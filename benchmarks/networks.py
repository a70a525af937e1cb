"""The networks for benchmarks: the bundled ones, narrow ones of the official layout, and the full-size ones.

Weights may be random: the time of a stage does not depend on values. Adapters can be merged, patched or separate, and
weights can be stored in 8 bits and cast at use, as in a host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import CastLayers, load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.evaluate.cost import count_flops
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.precision import decoder_dtype
from varestorer_core.schedule import get_schedule
from varestorer_core.tiles.tiling import longest_of_one_tile

NARROW = TransformerConfig(
    embed_dim=96,
    depth=2,
    num_heads=4,
    codebook_dim=32,
    text_channels=64,
    ffn_dim=384,
    text_rows=64,
    lora_rank=8,
)
NARROW_TOKENIZER = TokenizerConfig(
    codebook_dim=32,
    base_channels=8,
    channel_multipliers=(1, 2, 4, 4, 4),
    num_res_blocks=1,
    norm_groups=4,
)
"""512-pixel tiles of 3,545 tokens, like the official networks, with a thousandth of their computation."""


@dataclass
class Networks:
    """Networks of a run."""

    transformer: VARTransformer
    tokenizer: VisualTokenizer

    @property
    def schedule(self):
        return get_schedule(1.0, self.transformer.config.pixel_class)

    @property
    def tile(self):
        return self.schedule.pixel_size(self.tokenizer.config.patch_size)[0]

    @property
    def one_tile(self):
        return longest_of_one_tile(self.tile)


def load_networks(size, folder, device, dtype, *, lora="merged"):
    """Return networks of a size: "tiny" (bundled), "narrow", or "full" from the files of a folder.

    Args:
        dtype: of the transformer's matrices; in float8 they are cast to bfloat16 at use.
        lora: "merged", or "unmerged" for separate layers; the tiny model has none.
    """
    eight = dtype == torch.float8_e4m3fn
    compute = torch.bfloat16 if eight else dtype
    extra = {"operations": CastLayers, "compute_dtype": compute} if eight else {}
    transformer = load_transformer(
        *transformer_tensors(size, folder),
        dtype=dtype,
        device=device,
        merge=lora != "unmerged",
        consume=True,
        **extra,
    )
    return Networks(transformer, _tokenizer(size, folder, device, compute))


def transformer_tensors(size, folder):
    """Return the tensors and metadata of the transformer of a size, from its file or random."""
    if size == "narrow":
        torch.manual_seed(0)
        source = VARTransformer(NARROW)
        for parameter in source.parameters():
            nn.init.normal_(parameter, 0.0, 0.02)
        return dict(source.state_dict()), {}
    path = Path(folder) / "varestorer.pth" if size == "full" else asset_path(TINY_TRANSFORMER)
    return read_checkpoint(path, kind="transformer")


def _tokenizer(size, folder, device, dtype):
    decoding = decoder_dtype(dtype, device)
    if size == "narrow":
        return VisualTokenizer(NARROW_TOKENIZER, device=device, decoder_dtype=decoding).eval()
    path = (
        Path(folder) / "infinity_vae_d32reg.pth" if size == "full" else asset_path(TINY_TOKENIZER)
    )
    tensors, metadata = read_checkpoint(path, kind="tokenizer")
    return load_tokenizer(tensors, metadata, device=device, decoder_dtype=decoding, consume=True)


def flops_of_a_tile(networks):
    """Return the FLOPs of one tile by stage in the reference implementation, without computing anything."""
    costs = count_flops(networks.tokenizer.config, networks.transformer.config, networks.schedule)
    return {cost.stage: cost.flops for cost in costs}
