"""Alternative ways to run the weights of the one-step model, for comparison with its one pass.

Each is called like the transformer and returns logits whose arg-max is its bits, so `pipeline.restore_codes` and
`Restorer` accept it instead of the transformer. All choose the most likely bits.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from ..models.bsq import add_scale, bits_to_codes, pyramid_tokens, resize
from ..models.cache import KVCache
from ..models.masks import block_causal_mask
from ..models.sampling import favour_bits
from ..models.text_conditioning import TextContext
from ..models.transformer import VARTransformer
from ..schedule import ScaleSchedule


class Pass:
    """One pass of the unchanged network."""

    def __init__(self, transformer: VARTransformer):
        self.transformer = transformer
        self.config = transformer.config

    def encode_text(self, *args: Tensor | None) -> TextContext:
        """See `VARTransformer.encode_text`."""
        return self.transformer.encode_text(*args)

    def __call__(
        self, tokens: Tensor, text: TextContext, schedule: ScaleSchedule, *, lq_bits: Tensor
    ) -> Tensor:
        """Return logits (B, L, d, 2).

        Args:
            tokens: tokens of the long LQ pyramid.
            text: text context of one prompt.
            lq_bits: (B, L, d) bits of the LQ pyramid.
        """
        return self.transformer(tokens, text, schedule, lq_bits=lq_bits)


class CausalPass(Pass):
    """One pass in which no scale attends to a finer one, as in training without cross-scale attention."""

    def __call__(
        self, tokens: Tensor, text: TextContext, schedule: ScaleSchedule, *, lq_bits: Tensor
    ) -> Tensor:
        """See `Pass`."""
        mask = block_causal_mask(schedule, tokens.device)
        short = tokens[:, : schedule.num_tokens - 1]  # the long pyramid begins with the short one
        return self.transformer(short, text, schedule, mask=mask, lq_bits=lq_bits)


class CachedSteps(Pass):
    """Next-scale prediction: one step per scale, with a key/value cache.

    The last block of the LQ pyramid, which is the complete LQ code map, is processed first and stays in the cache as
    the condition. The input of each scale is then the sum of the bits predicted so far, instead of that of the LQ bits
    as in the one pass, and attends to the LQ block and the scales up to its own.
    """

    def __call__(
        self, tokens: Tensor, text: TextContext, schedule: ScaleSchedule, *, lq_bits: Tensor
    ) -> Tensor:
        """See `Pass`."""
        model, length = self.transformer, schedule.num_tokens
        text = text.expand(tokens.shape[0])
        caches = [KVCache() for _ in model.blocks]
        stream = model.embed(tokens, text, schedule)
        self._run(stream[:, length:], length, text, schedule, caches)
        summed: Tensor | None = None
        all_logits = []
        for k, ((start, stop), grid) in enumerate(zip(schedule.spans, schedule.grids, strict=True)):
            if summed is None:
                x = stream[:, :1]  # the start token, which depends on no bits
            else:
                own = resize(summed, grid).flatten(2).transpose(1, 2)
                level = torch.full((1,), k, dtype=torch.long, device=own.device)
                x = model.word_embed(own) + model.lvl_embed(level)
            x = self._run(x, start, text, schedule, caches)
            logits = model.predict(x, text.cond)
            if model.lq_prior is not None:
                logits = favour_bits(logits, lq_bits[:, start:stop], model.lq_prior[k].to(logits))
            summed = add_scale(summed, bits_to_codes(_most_likely(logits)), schedule, k)
            all_logits.append(logits)
        return torch.cat(all_logits, dim=1)

    def _run(
        self,
        x: Tensor,
        start: int,
        text: TextContext,
        schedule: ScaleSchedule,
        caches: list[KVCache],
    ) -> Tensor:
        """Run tokens (B, n, C) that begin at row `start` through all blocks."""
        rope = self.transformer.rope(schedule, start, x.shape[1], x.device)
        for block, own, cache in zip(self.transformer.blocks, text.blocks, caches, strict=True):
            x = block(x, own, rope, text_mask=text.mask, cache=cache)
        return x


class RefedSteps(Pass):
    """One pass per scale: each fixes the bits of one scale, which replace the LQ bits in the next pass.

    Every pass is the one that the network was trained for. Nothing can be cached, since all scales attend to each
    other.
    """

    def __call__(
        self, tokens: Tensor, text: TextContext, schedule: ScaleSchedule, *, lq_bits: Tensor
    ) -> Tensor:
        """See `Pass`."""
        bits, parts = lq_bits.clone(), []
        for start, stop in schedule.spans:
            logits = self.transformer(tokens, text, schedule, lq_bits=lq_bits)[:, start:stop]
            bits[:, start:stop] = _most_likely(logits)
            tokens = pyramid_tokens(bits, schedule, "long")
            parts.append(logits)
        return torch.cat(parts, dim=1)


class Timed:
    """A pass with a timer."""

    def __init__(self, inner: Pass):
        self.inner = inner
        self.config = inner.config
        self.encode_text = inner.encode_text
        self._calls: list[tuple[float, int]] = []

    def __call__(self, tokens: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Run and time the pass."""
        finish(tokens.device)
        begun = time.perf_counter()
        logits = self.inner(tokens, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        finish(tokens.device)
        self._calls.append((time.perf_counter() - begun, tokens.shape[0]))
        return logits

    @property
    def seconds_per_tile(self) -> float:
        """Mean over all calls but the first, which also fills caches and selects kernels."""
        seconds, tiles = zip(*(self._calls[1:] or self._calls), strict=True)
        return sum(seconds) / sum(tiles)


def _most_likely(logits: Tensor) -> Tensor:
    return logits[..., 1] > logits[..., 0]


def finish(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
