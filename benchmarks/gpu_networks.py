"""The networks of `gpu.py` on their device, and their timing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from varestorer_core.assets import TINY_TOKENIZER, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import load_tokenizer, load_transformer, read_checkpoint
from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.models.layers import CastLayers
from varestorer_core.models.tokenizer import VisualTokenizer
from varestorer_core.models.transformer import VARTransformer

FULL_TRANSFORMER = TransformerConfig(
    2048, 32, 16, 32, 2048, 8192, text_rows=512, pixel_class="0.25M"
)
FULL_TOKENIZER = TokenizerConfig(32, 128, (1, 2, 4, 4, 4), num_res_blocks=2, norm_groups=32)


class Rows(list):
    """Rows of results, each also written to a file when it is added."""

    def __init__(self, path: Path | None):
        super().__init__()
        self.path = path

    def append(self, row: dict) -> None:
        super().append(row)
        print(json.dumps(row), flush=True)
        if self.path is not None:
            self.path.write_text(json.dumps(list(self), indent=1))


class Bench:
    """The networks of a run on their device, and their timing."""

    def __init__(self, device: torch.device, size: str, out: Path | None = None):
        self.device, self.size, self.rehearsal = device, size, device.type == "cpu"
        self.out = out

    def rows(self, name: str) -> Rows:
        """Return an empty list of rows that is stored in OUT/NAME.rows.json as it grows."""
        return Rows(
            self.out and self.out / f"{name.replace(', ', '_').replace(' ', '_')}.rows.json"
        )

    def transformer(self, weights: torch.dtype, device: torch.device | None = None):
        """Return a transformer with matrices in `weights`; at full size its weights are random."""
        device = device or self.device
        if self.size == "bundled":
            files = read_checkpoint(asset_path(TINY_TRANSFORMER))
            return load_transformer(
                *files,
                dtype=weights,
                device=device,
                operations=_layers(weights),
                compute_dtype=_multiplied(weights),
            )
        model = VARTransformer(
            FULL_TRANSFORMER,
            dtype=weights,
            device="meta",
            operations=_layers(weights),
            compute_dtype=_multiplied(weights),
        )
        return _with_random_weights(model, device)

    def tokenizer(self, decoding: torch.dtype, device: torch.device | None = None):
        """Return a tokenizer whose decoder has the type `decoding`."""
        device = device or self.device
        if self.size == "bundled":
            files = read_checkpoint(asset_path(TINY_TOKENIZER))
            return load_tokenizer(*files, device=device, decoder_dtype=decoding)
        model = VisualTokenizer(FULL_TOKENIZER, device="meta", decoder_dtype=decoding)
        return _with_random_weights(model, device)

    def seconds(self, work, repeats: int = 3) -> float:
        """Return the shortest time of several runs after a warm-up run."""
        times = []
        for _ in range(1 if self.rehearsal else repeats + 1):
            self.wait()
            begun = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - begun)
        return min(times[1:] or times)

    def wait(self) -> None:
        """Wait until the device has finished its queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def reserved(self) -> int | None:
        """Return the peak of reserved memory since the last call; None if it is not counted."""
        if self.device.type != "cuda":
            return None
        most = torch.cuda.max_memory_reserved(self.device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return most


def _layers(weights: torch.dtype):
    return CastLayers if weights.itemsize == 1 else torch.nn


def _multiplied(weights: torch.dtype) -> torch.dtype:
    return torch.bfloat16 if weights.itemsize == 1 else weights


def _with_random_weights(model, device):
    model.to_empty(device=device)
    for parameter in model.parameters():
        # Via float32, since float8 has no random number functions.
        parameter.data.copy_(torch.randn(parameter.shape, device=device) * 0.02)
    return model.eval().requires_grad_(False)
