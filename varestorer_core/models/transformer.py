"""The visual autoregressive transformer: one-step restorer and next-scale teacher in one class.

Notable:
- the sequence is [start; scale 1; ...; scale K-1]. The tokens of scale k hold what is known before that scale and
  predict its bits at the same cells. The one-step student appends the complete LQ code map as context;
- the student attends without a mask, the teacher with a block-causal one: the only difference between the passes;
- the condition vector of the text starts the sequence and modulates every block (adaptive layer norm);
- the logits are d independent two-way choices per token, laid out bit by bit.

Sources: VARestorer (ICLR 2026), Infinity (CVPR 2025), sections on the bitwise classifier and text conditioning.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TransformerConfig
from ..schedule import ScaleSchedule
from .adaptive_norm import HeadNorm
from .attention import AttentionFn, attention
from .block import Block
from .masks import additive_mask, block_causal_mask
from .rope import rope_table
from .sampling import favour_bits
from .text_conditioning import TextContext
from .text_pool import RMSNorm, TextPool, pool_heads

UNCONDITIONAL_LENGTH = 64
"""Number of rows of the learned unconditional embedding used without a prompt: in training, it replaced captions of
all lengths, most of them about this long."""


class VARTransformer(nn.Module):
    """Visual autoregressive transformer over multi-scale bit tokens.

    Args:
        config: shape of the network.
        operations: namespace of layer classes (`torch.nn`, or a host's offload-aware ones).
        dtype: of the blocks' matrices; everything else is small and stays in float32.
        device: of the parameters; "meta" allocates no memory.
        compute_dtype: dtype of the blocks' matrix multiplications; default `dtype`.
        attention: see `models.attention.AttentionFn`.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        compute_dtype: torch.dtype | None = None,
        attention: AttentionFn = attention,
    ):
        super().__init__()
        self.config = config
        dim, text_dim, d = config.embed_dim, config.text_channels, config.codebook_dim
        outer: dict[str, Any] = {"dtype": torch.float32, "device": device}
        self.compute_dtype = compute_dtype or dtype or torch.float32

        self.cfg_uncond = nn.Parameter(torch.zeros(config.text_rows, text_dim, **outer))
        self.pos_start = nn.Parameter(torch.zeros(1, 1, dim, **outer))
        self.text_norm = RMSNorm(text_dim, **outer)
        self.text_proj_for_sos = TextPool(
            text_dim, dim, pool_heads(text_dim, dim), operations, attention, **outer
        )
        self.text_proj_for_ca = nn.Sequential(
            operations.Linear(text_dim, dim, **outer),
            nn.GELU(approximate="tanh"),
            operations.Linear(dim, dim, **outer),
        )
        self.shared_ada_lin = nn.Sequential(nn.SiLU(), operations.Linear(dim, 6 * dim, **outer))
        self.word_embed = operations.Linear(d, dim, **outer)
        self.lvl_embed = operations.Embedding(config.level_rows, dim, **outer)
        factory: dict[str, Any] = {"dtype": dtype or torch.float32, "device": device}
        self.blocks = nn.ModuleList(
            Block(config, operations, attention, self.compute_dtype, **factory)
            for _ in range(config.depth)
        )
        self.head_nm = HeadNorm(dim, operations, **outer)
        self.head = operations.Linear(dim, 2 * d, **outer)
        self.lq_prior = (
            nn.Parameter(torch.zeros(config.level_rows, **outer)) if config.lq_prior else None
        )

    def encode_text(
        self, features: Tensor | None = None, mask: Tensor | None = None, *, device: Any = None
    ) -> TextContext:
        """Compute everything that depends only on the prompt.

        Args:
            features: (B, T, text_channels) of the text encoder; None uses the learned
                unconditional embedding, which needs no text encoder.
            mask: (B, T), True where a row is text and not padding; None means all rows.
            device: where to compute if there are no features; default that of the parameters.

        Raises:
            ValueError: if the features have another width, or a prompt has no valid row.
        """
        # Deviation from upstream: the text is never dropped at random. Upstream does so with probability 0.1, even at
        # inference, and then for all following tiles.
        if features is None:
            rows = min(self.config.text_rows, UNCONDITIONAL_LENGTH)
            features = self.cfg_uncond[None, :rows].to(device=device)
        if features.ndim != 3 or features.shape[-1] != self.config.text_channels:
            raise ValueError(
                f"Text features must be (B, T, {self.config.text_channels}), got {tuple(features.shape)}. "
                "Use the text encoder that the model was trained with (flan-t5-xl for VARestorer)."
            )
        if features.shape[1] == 0 or (mask is not None and not bool(mask.bool().any(1).all())):
            raise ValueError("Every prompt needs at least one text token, got one without any.")
        text_mask = additive_mask(mask)
        text = self.text_norm(features.float())
        cond = self.text_proj_for_sos(text, text_mask)
        modulation = self.shared_ada_lin(cond).unflatten(-1, (1, 6, -1))
        source = self.text_proj_for_ca(text).to(self.compute_dtype)
        blocks = [block.context(modulation, source) for block in self.blocks]  # pyright: ignore
        if text_mask is not None:
            text_mask = text_mask.to(self.compute_dtype)
        return TextContext(cond, modulation, blocks, text_mask)

    def forward(
        self,
        tokens: Tensor,
        text: TextContext,
        schedule: ScaleSchedule,
        *,
        mask: Tensor | None = None,
        lq_bits: Tensor | None = None,
    ) -> Tensor:
        """Predict the bits of all scales in one pass.

        Args:
            tokens: (B, n - 1, d) from `bsq.pyramid_tokens`, with n = L ("short") or L + h*w ("long").
            text: from `encode_text`, of one prompt or of B prompts.
            mask: None for the student; `block_causal_mask(schedule)` for the teacher. A student without `cross_scale`
                in its configuration always uses the teacher's mask and the short pyramid.
            lq_bits: (B, L, d) bits of the LQ pyramid; required if the configuration has `lq_prior`.

        Returns:
            (B, L, d, 2) float32: logits of each bit being 0 and 1.

        Raises:
            ValueError: if the tokens do not fit the schedule or the model.
        """
        if not self.config.cross_scale:
            # The long pyramid begins with the short one.
            tokens = tokens[:, : schedule.num_tokens - 1]
            mask = block_causal_mask(schedule, tokens.device)
        x = self.embed(tokens, text, schedule)
        rope = self.rope(schedule, 0, x.shape[1], x.device)
        text = text.expand(x.shape[0])
        for index, (block, context) in enumerate(zip(self.blocks, text.blocks, strict=True)):
            # The appended code map has no logits: the last block only attends to it.
            rows = schedule.num_tokens if index == len(self.blocks) - 1 else None
            x = block(x, context, rope, mask=mask, text_mask=text.mask, num_queries=rows)
        logits = self.predict(x, text.cond)
        if self.lq_prior is not None:
            logits = self._add_prior(logits, lq_bits, schedule)
        return logits

    def embed(self, tokens: Tensor, text: TextContext, schedule: ScaleSchedule) -> Tensor:
        """Return the token stream (B, n, C) before the first block."""
        length = tokens.shape[1] + 1
        if tokens.shape[-1] != self.config.codebook_dim:
            raise ValueError(
                f"The model reads {self.config.codebook_dim} bits per token, got {tokens.shape[-1]}. "
                "The visual tokenizer belongs to another model."
            )
        if length not in (schedule.num_tokens, schedule.num_tokens_long):
            raise ValueError(
                f"This schedule has {schedule.num_tokens - 1} (short) or {schedule.num_tokens_long - 1} (long) "
                f"tokens, got {tokens.shape[1]}."
            )
        start = (text.cond[:, None] + self.pos_start.to(text.cond)).expand(tokens.shape[0], -1, -1)
        x = torch.cat([start, self.word_embed(tokens.float())], dim=1)
        return x + self.lvl_embed(_levels(schedule, length, x.device)).to(x.dtype)

    def rope(
        self, schedule: ScaleSchedule, start: int, length: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return (cos, sin) of the rows of a sequence that starts at row `start`."""
        own = self.config.lq_rows == "own"
        return rope_table(schedule, self.config.head_dim, start, length, device, own_lq_rows=own)

    def predict(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return logits (B, n, d, 2) of the token stream (B, n, C) after the last block."""
        return self.head(self.head_nm(x, cond)).unflatten(-1, (-1, 2))

    def _add_prior(self, logits: Tensor, lq_bits: Tensor | None, schedule: ScaleSchedule) -> Tensor:
        if lq_bits is None:
            raise ValueError("This model has a prior towards the LQ bits: pass lq_bits (B, L, d).")
        gain = self.lq_prior.to(logits)[: schedule.num_scales]  # pyright: ignore
        sizes = torch.tensor(schedule.sizes, device=gain.device)
        # Without output_size, this would synchronise with the GPU.
        gain = torch.repeat_interleave(gain, sizes, output_size=schedule.num_tokens)
        return favour_bits(logits, lq_bits, gain[:, None])


@lru_cache(maxsize=8)
def _levels(schedule: ScaleSchedule, length: int, device: torch.device) -> Tensor:
    """Return the row of the level embedding of every token (length,); the appended code map has its own."""
    scales = schedule.num_scales + (length > schedule.num_tokens)
    sizes = [*schedule.sizes, schedule.sizes[-1]][:scales]
    # Cached on its device: each copy from the host would synchronise.
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)]).to(device)
