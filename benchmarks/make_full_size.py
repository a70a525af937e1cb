"""Write full-size checkpoints with random weights in the official layouts, for measurements without a download.

    python benchmarks/make_full_size.py DIR [--dtype bf16|fp32] [--only transformer|tokenizer|base]

writes DIR/varestorer.pth (adapters in place, blocks nested in chunks) and DIR/infinity_vae_d32reg.pth
(weights under "vae"), or only one of them, or DIR/infinity_2b_reg.pth (the teacher, without adapters).
Names and shapes come from the architecture in this package. The scales are those of an initialised network:
activations stay finite, the picture means nothing.

Each tensor is stored in a separate file until `torch.save` streams them into one, so memory stays close to the largest
tensor; the disk needs room for twice the result meanwhile.
"""

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from pathlib import Path

import torch

from varestorer_core.checkpoint.check import expected_parameters
from varestorer_core.checkpoint.keys import TOKENIZER_TO_OFFICIAL, apply_renames, chunk_blocks
from varestorer_core.config import INFINITY_VAE_D32, VARESTORER_2B

BLOCKS_PER_CHUNK = 4
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def official_transformer_shapes(config, blocks_per_chunk=BLOCKS_PER_CHUNK):
    """Return the shapes by name as in the official file, including constant buffers."""
    shapes = {}
    for name, tensor in expected_parameters(config).items():
        official = chunk_blocks(name, blocks_per_chunk)
        shapes[official] = tuple(tensor.shape)
        if official.endswith("a.v_bias"):
            shapes[official.replace("v_bias", "zero_k_bias")] = tuple(tensor.shape)
    return shapes


def official_tokenizer_shapes(config):
    """Return the shapes by name as in the official file, without the integer constants."""
    return {
        apply_renames(name, TOKENIZER_TO_OFFICIAL): tuple(tensor.shape)
        for name, tensor in expected_parameters(config).items()
    }


def scale_of(name, shape):
    """Return (mean, standard deviation) of a parameter's random values."""
    if name.endswith("zero_k_bias"):
        return 0.0, 0.0
    if "norm" in name and name.endswith("weight") and len(shape) == 1:
        return 1.0, 0.02
    if name.endswith("scale_mul_1H11"):
        return math.log(4.0), 0.1
    if name.endswith("lora_up.weight"):
        return 0.0, 0.1 / math.sqrt(shape[1])
    if name in ("cfg_uncond", "pos_start") or len(shape) < 2:
        return 0.0, 0.02
    if name.endswith(("ada_gss", "lvl_embed.weight")):
        return 0.0, 0.1
    return 0.0, 1.0 / math.sqrt(math.prod(shape[1:]))


def random_tensors(shapes, dtype, folder):
    """Return tensors backed by files in `folder`, filled from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for index, (name, shape) in enumerate(shapes.items()):
        count = math.prod(shape)
        tensor = torch.from_file(
            str(folder / f"{index}.bin"), shared=True, size=count, dtype=dtype
        ).view(shape)
        mean, deviation = scale_of(name, shape)
        values = torch.empty(shape)
        tensor.copy_(values.normal_(mean, deviation, generator=generator) if deviation else 0)
        tensors[name] = tensor
    return tensors


def write(path, shapes, dtype, wrap=None):
    """Write one file and print its size."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tensors = random_tensors(shapes, dtype, Path(folder))
        torch.save({wrap: tensors} if wrap else tensors, path)
        count = sum(tensor.numel() for tensor in tensors.values())
    seconds = time.perf_counter() - start
    print(f"{path}: {count:,} elements, {path.stat().st_size / 1e9:.2f} GB, {seconds:.0f} s")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="existing folder to write to")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16", help="dtype of the transformer")
    parser.add_argument(
        "--only",
        choices=("transformer", "tokenizer", "base"),
        help="write one of the two, or the teacher for training",
    )
    args = parser.parse_args(argv)
    if args.only == "base":
        shapes = official_transformer_shapes(dataclasses.replace(VARESTORER_2B, lora_rank=0))
        write(args.folder / "infinity_2b_reg.pth", shapes, DTYPES[args.dtype])
        return 0
    if args.only != "tokenizer":
        shapes = official_transformer_shapes(VARESTORER_2B)
        write(args.folder / "varestorer.pth", shapes, DTYPES[args.dtype])
    if args.only != "transformer":
        shapes = official_tokenizer_shapes(INFINITY_VAE_D32)
        write(args.folder / "infinity_vae_d32reg.pth", shapes, torch.float32, wrap="vae")
    return 0


if __name__ == "__main__":
    sys.exit(main())
