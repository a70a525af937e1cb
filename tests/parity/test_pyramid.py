"""Bits of the pyramid exactly, its token lists to 2e-6."""

import torch

from varestorer_core.models.bsq import pyramid_tokens, quantize
from varestorer_core.schedule import get_schedule

LIMIT = 2e-6


def test_pyramid(goldens, close):
    for match, features in goldens.recorded("pyramid", r"in\.raw\.(\w+)"):
        label, tensors = match[1], goldens.load("pyramid")
        if label.isdigit():
            ratio, pixel_class = goldens.config["quant_schedules"][int(label)]
            schedule = get_schedule(float(ratio), pixel_class)
        else:
            schedule = goldens.small
        bits = quantize(features, schedule).bits
        assert torch.equal(bits, tensors[f"out.{label}.bits"].bool()), label
        short, tail = tensors[f"out.{label}.flip"], tensors[f"out.{label}.long_tail"]
        same_scale = tensors[f"out.{label}.my_flip"]
        close(f"{label}.short", pyramid_tokens(bits, schedule, "short"), short, LIMIT)
        close(f"{label}.same", pyramid_tokens(bits, schedule, "same_scale"), same_scale, LIMIT)
        long = torch.cat([short, tail], dim=1)
        close(f"{label}.long", pyramid_tokens(bits, schedule, "long"), long, LIMIT)
