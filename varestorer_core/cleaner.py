"""The cleaner: SwinIR, which removes degradation before the picture becomes tokens.

The network is spandrel's. It is called without spandrel's wrapper, which clamps to [0, 1]; the official pipeline does
not clamp, so the encoder also receives values slightly outside the range.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .checkpoint.check import is_finite
from .errors import CheckpointError, VARestorerError
from .kernels import foreign_layers
from .official_files import CLEANER
from .tiles.batching import is_out_of_memory
from .wording import counted, shown

_MULTIPLE = 64
"""Eight pixels per token of SwinIR's feature map times a window of eight tokens."""

_EXPECTED = f"Expected a SwinIR restorer, such as {CLEANER.source}."


class Cleaner:
    """A SwinIR restorer as the pipeline calls it.

    Args:
        compute_dtype: dtype of the computation with float32 weights. With bfloat16 the network runs under autocast,
        like the official pipeline on a GPU: on a CPU that is 10 dB closer than a network cast to bfloat16, and
            no slower. Any other dtype multiplies in that of the weights.
    """

    def __init__(self, network: torch.nn.Module, compute_dtype: torch.dtype | None = None):
        self.network = network
        self.compute_dtype = compute_dtype

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return cleaned images (B, 3, H, W) in about [-1, 1], not clamped, of the same size and dtype.

        They stay on the network's device, where the encoder uses them next.
        Sides that are not multiples of 64 are padded by reflection at the bottom and right.
        """
        weight = next(self.network.parameters())
        padded = _pad(((images + 1) / 2).to(weight.device, weight.dtype))
        with self._products(weight), foreign_layers(weight.device):
            cleaned = self.network(padded)
        cleaned = cleaned[..., : images.shape[-2], : images.shape[-1]]
        return 2 * cleaned.to(images.dtype) - 1

    def _products(self, weight: Tensor) -> AbstractContextManager[Any]:
        """Return the autocast context."""
        if weight.dtype == torch.float32 and self.compute_dtype == torch.bfloat16:
            return torch.autocast(weight.device.type, torch.bfloat16)
        return nullcontext()


def load_cleaner(
    state_dict: dict[str, Any],
    *,
    name: str,
    dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Cleaner:
    """Build the cleaner from a SwinIR state dict such as general_swinir_v1.ckpt.

    Args:
        state_dict: possibly nested under `state_dict`, keys possibly prefixed `module.`.
        name: of the file, for error messages.
        dtype: of the weights.
        compute_dtype: see `Cleaner`.

    Raises:
        CheckpointError: if the state dict is not a SwinIR restorer that keeps the picture's size.
        VARestorerError: if spandrel cannot be imported.
    """
    try:
        import spandrel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise VARestorerError(
            f"The cleaner needs the package spandrel, which cannot be imported ({shown(error)}). "
            "Run: pip install spandrel"
        ) from error
    try:
        descriptor = spandrel.ModelLoader("cpu").load_from_state_dict(dict(state_dict))
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError(
            f"{name} is not a model that spandrel supports. {_EXPECTED}"
        ) from error
    except Exception as error:  # spandrel may raise anything on damaged shapes
        if is_out_of_memory(error) or isinstance(error, MemoryError):
            raise CheckpointError(
                f"{name} cannot be loaded: there is not enough memory."
            ) from error
        reason = shown(" ".join(str(error).split()))  # torch lists keys on separate lines
        raise CheckpointError(f"{name} is damaged: {reason} {_EXPECTED}") from error
    kind = descriptor.architecture.id
    if kind != "SwinIR" or descriptor.scale != 1 or descriptor.input_channels != 3:
        raise CheckpointError(
            f"{name} is a {kind} model for {descriptor.input_channels} channels that enlarges "
            f"{descriptor.scale} times. {_EXPECTED}"
        )
    if descriptor.output_channels != 3:
        raise CheckpointError(
            f"{name} returns {descriptor.output_channels} channels, not 3. {_EXPECTED}"
        )
    broken = [key for key, value in descriptor.model.state_dict().items() if not is_finite(value)]
    if broken:
        raise CheckpointError(
            f"{name} has {counted(len(broken), 'tensor')} with NaN or infinite values (first: {broken[0]}). "
            "It is damaged; download it again."
        )
    network = descriptor.model.eval().requires_grad_(False)
    return Cleaner(network.to(device=device, dtype=dtype), compute_dtype)


def _pad(images: Tensor) -> Tensor:
    """Pad (B, C, H, W) at the bottom and right to multiples of 64 by reflection.

    A side shorter than the padding is reflected repeatedly, which a single reflect pad cannot do.
    """
    for axis in (-2, -1):
        while missing := -images.shape[axis] % _MULTIPLE:
            side = images.shape[axis]
            step = min(missing, side - 1)
            mode = "reflect" if side > 1 else "replicate"
            extent = [0, 0, 0, step or missing] if axis == -2 else [0, step or missing, 0, 0]
            images = F.pad(images, extent, mode=mode)
    return images
