"""Next-scale generation: the multi-step teacher with a key/value cache (VAR; Infinity).

One step per scale. The input of each step is the sum of the codes so far, sampled at the scale's grid; it attends to
all earlier scales through the cache. This is the multi-step baseline for the one-step student and, without adapters,
the text-to-image generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import VARestorerError
from ..schedule import ScaleSchedule
from .block import Block
from .bsq import add_scale, bits_to_codes, resize
from .cache import KVCache
from .text_conditioning import TextContext
from .transformer import UNCONDITIONAL_LENGTH, VARTransformer

OnScale = Callable[[int, Tensor, Tensor], None]
"""Called after each scale with its index, the logits (B, n_k, d, 2) passed to the sampler and the bits."""


def generate(
    transformer: VARTransformer,
    schedule: ScaleSchedule,
    *,
    text: Tensor | None = None,
    negative: Tensor | None = None,
    batch: int = 1,
    cfg: float | Sequence[float] = 3.0,
    cfg_blocks: Sequence[int] = (),
    tau: float | Sequence[float] = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    on_scale: OnScale | None = None,
) -> Tensor:
    """Generate the bits of a picture scale by scale.

    Args:
        text: (1, T, Ct) features of the prompt; None generates without one.
        negative: (1, T', Ct) features of the negative prompt; None uses as many rows of the learned unconditional
            embedding as the prompt has.
        batch: pictures of the same prompt.
        cfg: guidance scale, for all scales or one for each; 1 disables guidance.
        cfg_blocks: apply guidance after these blocks (negative indices count from the end) instead of to the logits.
        tau: temperature that divides the logits, for all scales or one for each.
        top_k: 1 uses the arg-max; 0, or 2 and more, has no effect (a bit has two values).
        top_p: nucleus of each bit's two values; 0 means off.
        generator: random generator on any device; on the CPU, a seed produces the same samples everywhere.
        device: device to compute on; None is the device of the learned unconditional embedding. Required if a host
            offloads weights.
        on_scale: see `OnScale`; raising in it cancels.

    Returns:
        (B, L, d) bool.

    Raises:
        VARestorerError: if the network computes NaN or infinite values.
    """
    cfgs = _per_scale(cfg, schedule, "cfg")
    taus = _per_scale(tau, schedule, "tau")
    guided = any(w != 1 for w in cfgs)
    context = _contexts(transformer, text, negative, guided, device).repeat_each(batch)
    blocks: list[Block] = list(transformer.blocks)  # pyright: ignore[reportAssignmentType]
    mixed_after = {index % len(blocks) for index in cfg_blocks}
    caches = [KVCache() for _ in blocks]
    summed: Tensor | None = None
    all_bits = []
    for scale_idx, ((start, stop), grid) in enumerate(
        zip(schedule.spans, schedule.grids, strict=True)
    ):
        weight = cfgs[scale_idx]
        x = _scale_input(transformer, context, summed, scale_idx, grid, guided)
        rope = transformer.rope(schedule, start, stop - start, x.device)
        for index, (block, cache) in enumerate(zip(blocks, caches, strict=True)):
            x = block(
                x,
                context.blocks[index],
                rope,
                text_mask=context.mask,
                cache=cache,
            )
            if guided and index in mixed_after:
                x = _mix(x, weight).repeat(2, 1, 1)
        logits = (
            _scale_logits(transformer, x, context, weight, guided, bool(mixed_after))
            / taus[scale_idx]
        )
        bits = _draw(logits, top_k, top_p, generator)
        all_bits.append(bits)
        summed = add_scale(summed, bits_to_codes(bits), schedule, scale_idx)
        if on_scale is not None:
            on_scale(scale_idx, logits, bits)
    return torch.cat(all_bits, dim=1)


def _contexts(
    transformer: VARTransformer,
    text: Tensor | None,
    negative: Tensor | None,
    guided: bool,
    device: torch.device | str | None,
) -> TextContext:
    """Encode the prompt and, for guidance, the negative prompt as one batch."""
    uncond = transformer.cfg_uncond[None].to(device)
    text = uncond[:, :UNCONDITIONAL_LENGTH] if text is None else text.to(uncond.device)
    if not guided:
        return transformer.encode_text(text)
    negative = uncond[:, : text.shape[1]] if negative is None else negative
    negative = negative.to(text)
    rows = max(text.shape[1], negative.shape[1])
    features = torch.cat([F.pad(t, (0, 0, 0, rows - t.shape[1])) for t in (text, negative)])
    lengths = torch.tensor([text.shape[1], negative.shape[1]], device=features.device)
    return transformer.encode_text(
        features, torch.arange(rows, device=features.device) < lengths[:, None]
    )


def _scale_input(
    transformer: VARTransformer,
    context: TextContext,
    summed: Tensor | None,
    scale_idx: int,
    grid: tuple[int, int],
    guided: bool,
) -> Tensor:
    if summed is None:
        x = context.cond[:, None] + transformer.pos_start.to(context.cond)
    else:
        x = transformer.word_embed(resize(summed, grid).flatten(2).transpose(1, 2))
        x = x.repeat(2, 1, 1) if guided else x
    level = torch.full((1,), scale_idx, dtype=torch.long, device=x.device)
    return x + transformer.lvl_embed(level).to(x.dtype)


def _scale_logits(
    transformer: VARTransformer,
    x: Tensor,
    context: TextContext,
    weight: float,
    guided: bool,
    mixed: bool,
) -> Tensor:
    half = x.shape[0] // 2
    if not guided:
        return transformer.predict(x, context.cond)
    if mixed or weight == 1:
        return transformer.predict(x[:half], context.cond[:half])
    return _mix(transformer.predict(x, context.cond), weight)


def _mix(both: Tensor, weight: float) -> Tensor:
    """Extrapolate from the unconditional half (second) through the conditional one (first)."""
    cond, uncond = both.chunk(2)
    return weight * cond + (1 - weight) * uncond


def _draw(logits: Tensor, top_k: int, top_p: float, generator: torch.Generator | None) -> Tensor:
    if not bool(torch.isfinite(logits).all()):
        raise VARestorerError(
            "The model computed NaN or infinite logits, so no picture can be generated. Run it in "
            "bf16 or fp32, because fp16 can overflow, or lower the guidance."
        )
    if top_k == 1:
        return logits[..., 1] > logits[..., 0]
    probabilities = logits.softmax(-1)
    if top_p > 0:
        # Of two values, only the less likely one can be outside the nucleus.
        dropped = (probabilities <= 1 - top_p) & (probabilities < probabilities.flip(-1))
        probabilities = probabilities.masked_fill(dropped, 0.0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    pairs = probabilities.reshape(-1, 2)
    if generator is not None:
        pairs = pairs.to(generator.device)
    drawn = torch.multinomial(pairs, 1, replacement=True, generator=generator)
    return drawn.view(logits.shape[:-1]).bool().to(logits.device)


def _per_scale(value: float | Sequence[float], schedule: ScaleSchedule, name: str) -> list[float]:
    values = [value] * schedule.num_scales if isinstance(value, (int, float)) else list(value)
    if len(values) != schedule.num_scales:
        raise ValueError(
            f"{name} must be one number or {schedule.num_scales}, one per scale, got {len(values)}."
        )
    return [float(v) for v in values]
