"""Next-scale generation of the teacher: logits to 3e-4, bits exactly, pictures.

The settings of each case are read from the set's own description of the file.
"""

import re

import numpy as np
import torch

from varestorer_core.models.bsq import dequantize
from varestorer_core.models.generation import generate
from varestorer_core.tiles.official_tiling import to_8bit

LIMIT = 3e-4
NUMBER = r"([\d.]*\d)"


def settings(goldens, case):
    """Return the keyword arguments of `generate` that the description gives for a case."""
    said = re.search(rf"\b{case}: ([^;]*)", goldens.description("teacher_ar"))
    assert said, f"the set does not describe {case}"
    text = said[1]
    found = {}
    if listed := re.search(r"cfg \[([\d., ]+?),?(\.\.\.)?\]", text):
        values = [float(v) for v in listed[1].strip(" ,").split(",")]
        missing = goldens.small.num_scales - len(values)
        found["cfg"] = values + values[-1:] * missing
    elif single := re.search(rf"cfg {NUMBER}", text):
        found["cfg"] = float(single[1])
    for name, pattern in (("tau", "tau"), ("top_k", "top_k"), ("top_p", "top_p")):
        if value := re.search(rf"{pattern} {NUMBER}", text):
            found[name] = int(value[1]) if name == "top_k" else float(value[1])
    if seed := re.search(r"seed (\d+)", text):
        found["generator"] = torch.Generator().manual_seed(int(seed[1]))
    else:
        found["top_k"] = 1
    if after := re.search(r"after block index (depth-)?(\d+)", text):
        depth = goldens.config["transformer"]["depth"]
        found["cfg_blocks"] = [depth - int(after[2]) if after[1] else int(after[2])]
    if "in.kv_negative" in text:
        found["negative"] = goldens.load("teacher_ar")["in.kv_negative"][None]
    return found


def test_generation(goldens, close, same_picture):
    model = goldens.transformer(adapters=False)
    for match, expected in goldens.recorded("teacher_ar", r"out\.(\w+)\.logits\.fp32"):
        case, tensors = match[1], goldens.load("teacher_ar")
        logits = []
        bits = generate(
            model,
            goldens.small,
            text=tensors["in.kv"][None],
            on_scale=lambda _, handed, __, kept=logits: kept.append(handed.flatten(2)),
            **settings(goldens, case),
        )
        close(f"{case}.logits", torch.cat(logits, dim=1), expected, LIMIT)
        assert torch.equal(bits, tensors[f"out.{case}.bits.fp32"].bool()), case
        if f"out.{case}.image_u8_bgr.fp32" in tensors:
            image = goldens.tokenizer().decode(dequantize(bits, goldens.small))
            rgb = to_8bit(image.permute(0, 2, 3, 1).numpy())
            bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1]))
            same_picture(case, bgr, tensors[f"out.{case}.image_u8_bgr.fp32"])
