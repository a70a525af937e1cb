"""A run on existing files: the base, which is both teacher and student, and its tokenizer.

Both are read by the checkpoint loader, in an official layout or ours. A run records the SHA-256 of both files, because
a student continued on another base would be noise; its adapter also contains the hash, which loaders check.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import identify, load_tokenizer, load_transformer, read_checkpoint
from ..checkpoint.identify import SOURCES, describe_kind
from ..checkpoint.save import sha256
from ..config import TokenizerConfig, TransformerConfig
from ..errors import CheckpointError
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..official_files import INFINITY_2B

BASE_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
"""Dtypes of the base's matrices while adapters are trained."""

_BASE_SOURCE = INFINITY_2B.source


@dataclass(frozen=True)
class BaseFiles:
    """Files of a full-size run."""

    base: Path
    """Transformer without adapters, such as infinity_2b_reg.pth."""
    vae: Path
    """Tokenizer, such as infinity_vae_d32reg.pth."""
    pixel_class: str | None = None
    """Pixel class of the training tiles; None means the base's own. A smaller one needs less memory."""
    dtype: str = "bf16"
    """One of `BASE_DTYPES`."""

    def shapes(self) -> tuple[TokenizerConfig, TransformerConfig]:
        """Return both configurations, the transformer's with the pixel class to train on.

        Raises:
            CheckpointError: if a file is of another kind, or they do not belong together.
        """
        tokenizer, transformer = _config(self.vae, "tokenizer"), _config(self.base, "transformer")
        assert isinstance(tokenizer, TokenizerConfig)
        assert isinstance(transformer, TransformerConfig)
        if transformer.lora_rank:
            raise CheckpointError(
                f"{self.base.name} already contains adapters. Expected one without, such as "
                f"{_BASE_SOURCE}. To continue the training of adapters, specify their base, and the file with --init."
            )
        if tokenizer.codebook_dim != transformer.codebook_dim:
            raise CheckpointError(
                f"{self.base.name} uses {transformer.codebook_dim} bits per token, but {self.vae.name} uses "
                f"{tokenizer.codebook_dim}. Use a base and a tokenizer that belong together."
            )
        if self.pixel_class is not None:
            transformer = replace(transformer, pixel_class=self.pixel_class)
        return tokenizer, transformer

    def record(self) -> dict[str, Any]:
        """Return a run's record of its files."""
        return {
            "base": {
                "file": self.base.name,
                "sha256": _identity(self.base, "transformer"),
                "pixel_class": _config(self.base, "transformer").pixel_class,
            },
            "vae": {"file": self.vae.name, "sha256": _identity(self.vae, "tokenizer")},
        }

    def check(self, record: dict[str, Any], run: Path) -> None:
        """Raise an error for files other than those that the run was started with.

        Raises:
            CheckpointError: naming the file and both hashes.
        """
        for role, found in self.record().items():
            wanted = record.get(role, {})
            if wanted.get("sha256") != found["sha256"]:
                raise CheckpointError(
                    f"The run in {run} was started with another {role}: {wanted.get('file')} with SHA-256 "
                    f"{str(wanted.get('sha256'))[:12]}..., got {found['file']} with {found['sha256'][:12]}.... "
                    f"Specify that file as --{role}, or another --out."
                )

    def load_teacher(self, config: TransformerConfig, device: str) -> VARTransformer:
        """Return the base, frozen, its matrices in `dtype`, with the run's configuration of it."""
        tensors, metadata = read_checkpoint(self.base, kind="transformer")
        teacher = load_transformer(
            tensors,
            metadata,
            name=self.base.name,
            dtype=BASE_DTYPES[self.dtype],
            device=device,
            consume=True,
        )
        teacher.config = config
        return teacher.requires_grad_(False)

    def load_tokenizer(self) -> VisualTokenizer:
        """Return the tokenizer, frozen, in float32 on the CPU."""
        tensors, metadata = read_checkpoint(self.vae, kind="tokenizer")
        tokenizer = load_tokenizer(
            tensors, metadata, name=self.vae.name, dtype=torch.float32, consume=True
        )
        return tokenizer.requires_grad_(False)


def _config(path: Path, kind: str) -> Any:
    tensors, metadata = read_checkpoint(path, kind=kind)
    info = identify(tensors, metadata)
    if info.kind != kind:
        source = SOURCES[kind] if kind == "tokenizer" else _BASE_SOURCE
        raise CheckpointError(
            f"{path.name} is {info.description}, expected {describe_kind(kind)}. Use {source}."
        )
    if info.config is None:
        raise CheckpointError(f"{path.name} cannot be used: {' '.join(info.problems)}")
    return info.config


def _identity(path: Path, kind: str) -> str:
    """Return the hash by which loaders identify a file: that of its source if it was converted, else its own."""
    _, metadata = read_checkpoint(path, kind=kind)
    return metadata.get("varestorer.source_sha256") or sha256(path)
