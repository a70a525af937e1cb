"""The cleaner in the shape of general_swinir_v1.ckpt, with random weights."""

from __future__ import annotations

import torch

from varestorer_core.cleaner import load_cleaner

OFFICIAL = {
    "img_size": 64,
    "embed_dim": 180,
    "depths": [6] * 8,
    "num_heads": [6] * 8,
    "window_size": 8,
    "mlp_ratio": 2,
    "upscale": 8,
    "upsampler": "nearest+conv",
    "start_unshuffle": 8,
}
"""15.8 million parameters."""


def random_cleaner(device, compute_dtype=None, **changes):
    """Return a cleaner of the official shape, with optional changes to spandrel's arguments of SwinIR.

    Args:
        compute_dtype: dtype of the computation, see `Cleaner`.

    Raises:
        ImportError: if spandrel is not installed.
    """
    from spandrel.architectures.SwinIR import SwinIR  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    tensors = SwinIR(**{**OFFICIAL, **changes}).state_dict()
    # The file's name for the convolution after the unshuffling, which spandrel expects.
    for leaf in ("weight", "bias"):
        tensors[f"conv_first.1.{leaf}"] = tensors.pop(f"conv_first.{leaf}")
    return load_cleaner(tensors, name="a random SwinIR", compute_dtype=compute_dtype, device=device)
