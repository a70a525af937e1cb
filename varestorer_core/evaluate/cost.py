"""Cost of networks: parameters, multiply-adds of one tile by stage, seconds and memory.

Counts are of the reference implementation, from shapes alone: nothing is computed, so a network of any size is counted
in a second. Matrix products, convolutions and attention count; additions, norms and activations do not, as in other
profilers.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..config import TokenizerConfig, TransformerConfig
from ..loaded import LoadedStages
from ..lora.factors import adapter_rank
from ..models.tokenizer import VisualTokenizer
from ..models.transformer import VARTransformer
from ..schedule import ScaleSchedule, get_schedule
from .passes import CachedSteps, Pass, finish

STAGES = ("encode", "transformer", "decode")


@dataclass(frozen=True)
class Cost:
    """Cost of one tile in one stage."""

    stage: str
    flops: int
    """Two for each multiply-add."""
    seconds: float | None = None
    """Median; None if it was only counted."""

    @property
    def multiply_adds(self) -> int:
        """Half of the FLOPs."""
        return self.flops // 2


@dataclass(frozen=True)
class Parameters:
    """Number of parameters of a model."""

    encoder: int
    decoder: int
    transformer: int
    """Without adapters."""
    adapters: int

    @property
    def total(self) -> int:
        """All parameters that a restoration needs, without text encoder and cleaner."""
        return self.encoder + self.decoder + self.transformer + self.adapters


def count_parameters(
    tokenizer: TokenizerConfig, transformer: TransformerConfig, rank: int | None = None
) -> Parameters:
    """Count the parameters of a model from its shapes.

    Args:
        rank: rank of the adapters; None means the transformer's own.
    """
    rank = transformer.lora_rank if rank is None else rank
    both = VisualTokenizer(tokenizer, device="meta")
    plain = VARTransformer(dataclasses.replace(transformer, lora_rank=0), device="meta")
    adapters = 0
    if rank:
        adapted = VARTransformer(dataclasses.replace(transformer, lora_rank=rank), device="meta")
        assert adapter_rank({k: tuple(v.shape) for k, v in adapted.state_dict().items()}) == rank
        adapters = _size(adapted) - _size(plain)
    return Parameters(_size(both.encoder), _size(both.decoder), _size(plain), adapters)


def count_flops(
    tokenizer: TokenizerConfig,
    transformer: TransformerConfig,
    schedule: ScaleSchedule | None = None,
    *,
    steps: bool = False,
) -> list[Cost]:
    """Count the FLOPs of one tile by stage.

    Args:
        schedule: scale schedule of the tile; None means that of the model's own tile size.
        steps: predict scale by scale with a cache, like the teacher, instead of in one pass.
    """
    config = dataclasses.replace(transformer, lora_rank=0)
    schedule = schedule or get_schedule(1.0, config.pixel_class)
    networks = VisualTokenizer(tokenizer, device="meta"), VARTransformer(config, device="meta")
    return [
        Cost(stage, _flops(work)) for stage, work in _work(*networks, schedule, steps=steps).items()
    ]


def measure(
    stages: LoadedStages, *, steps: bool = False, repeats: int = 3
) -> tuple[list[Cost], int]:
    """Measure the cost of one tile by stage with seconds, and the peak of memory in bytes.

    Args:
        stages: loaded networks.
        steps: see `count_flops`.
        repeats: timed runs of each stage, after one warm-up run; the median is returned.

    Returns:
        On CUDA, the memory is the most that the device's allocator held; elsewhere, the process's resident memory.
    """
    tokenizer, transformer = stages.tokenizer, stages.transformer
    counted = count_flops(tokenizer.config, transformer.config, stages.schedule, steps=steps)
    work = _work(tokenizer, transformer, stages.schedule, steps=steps, device=stages.device)
    with _Peak(torch.device(stages.device)) as peak, torch.inference_mode():
        seconds = [_seconds(work[cost.stage], stages.device, repeats) for cost in counted]
    costs = [dataclasses.replace(cost, seconds=s) for cost, s in zip(counted, seconds, strict=True)]
    return costs, peak.bytes


def _work(
    tokenizer: VisualTokenizer,
    transformer: VARTransformer,
    schedule: ScaleSchedule,
    *,
    steps: bool,
    device: torch.device | str = "meta",
) -> dict[str, Callable[[], Any]]:
    """Return each stage's work for one tile as a function."""
    tile, bits = schedule.pixel_size(tokenizer.config.patch_size), tokenizer.config.codebook_dim

    def blank(*shape: int) -> Tensor:
        return torch.zeros(shape, device=device)

    image, codes = blank(1, 3, *tile), blank(1, bits, *schedule.last_grid)
    tokens = blank(1, schedule.num_tokens_long - 1, bits)
    lq_bits = torch.zeros(1, schedule.num_tokens, bits, dtype=torch.bool, device=device)
    with torch.no_grad():
        text = transformer.encode_text()
    kind = CachedSteps if steps else Pass
    return {
        "encode": lambda: tokenizer.encode(image),
        "transformer": lambda: kind(transformer)(tokens, text, schedule, lq_bits=lq_bits),
        "decode": lambda: tokenizer.decode(codes),
    }


def _flops(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def _seconds(work: Callable[[], Any], device: torch.device | str, repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        finish(torch.device(device))
        times.append(time.perf_counter() - begun)
    return sorted(times[1:])[repeats // 2]


class _Peak:
    """The most memory in use while it is active."""

    def __init__(self, device: torch.device):
        self.device, self.bytes = device, 0
        self._ends = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Peak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
            return
        self._ends.set()
        self._watch.join()

    def _look(self) -> None:
        while True:
            self.bytes = max(self.bytes, _resident())
            if self._ends.wait(0.01):
                return


def _resident() -> int:
    """Return the resident memory of this process in bytes; 0 if the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
