"""Initialisation of networks that are trained from scratch, and of a student made from a teacher.

`VARTransformer` initialises some parameters to zero, since a checkpoint is normally loaded; with zeros, the gates, the
text query and the start token would never be trained. For the initialisation of a tokenizer, see `skip_start`.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from ..lora.layer import LoRALinear
from ..models.transformer import VARTransformer
from ..schedule import PIXEL_CLASSES

_STD = 0.02
_GATE = 1.0
_COPIER_GAINS = (3.0, 0.8)
"""Log-odds that an LQ bit equals the clean one, for the coarsest and the finest scale: about the values measured on
mildly degraded pictures (96 % and 69 % agree). Higher initial values take long to unlearn."""
_STARTS = {
    # Sums of unit codes are about 1/sqrt(d) per channel; this scales the stream to unit size.
    "word_embed.weight": 1.0,
    "lvl_embed.weight": 0.2,
    "pos_start": 0.2,
    "cfg_uncond": 1.0,
    "text_proj_for_sos.ca.mat_q": _STD,
    # Initially the text has no effect on the modulation, and the gates of the blocks are open.
    "shared_ada_lin.1.weight": 0.1 * _STD,
    "head_nm.ada_lin.1.weight": 0.1 * _STD,
    "head.weight": _STD,
}
"""Standard deviations of parameters other than ordinary matrices."""


@torch.no_grad()
def initialise(model: VARTransformer, seed: int) -> None:
    """Fill all parameters of a new model in place."""
    generator = torch.Generator().manual_seed(seed)

    def normal(parameter: torch.Tensor, std: float = _STD) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            normal(module.weight, module.in_features**-0.5)
            if module.bias is not None:
                module.bias.zero_()
    residual = (2 * model.config.depth) ** -0.5  # keeps the scale of the stream over the depth
    for name, parameter in model.named_parameters():
        if name.startswith("blocks.") and name.endswith(("a.proj.weight", "fc2.weight")):
            parameter.mul_(residual)
        elif name.endswith("ada_gss"):
            parameter[:, :, :2] = _GATE
        elif name.endswith("scale_mul_1H11"):
            parameter.fill_(math.log(4.0))
        elif name in _STARTS:
            normal(parameter, _STARTS[name])


@torch.no_grad()
def student_from_teacher(
    teacher: VARTransformer, lora_rank: int = 0, seed: int = 0
) -> VARTransformer:
    """Return a student initialised with the teacher's weights; only its trainable parameters require gradients.

    Args:
        teacher: network without adapters.
        lora_rank: 0 trains all weights, and the student initially copies the bits of the LQ pyramid: the head is
            zero and the log-odds prior is positive, while the blocks keep the teacher's weights. Above 0, only
            adapters of that rank are trained and all other weights are the teacher's, as in the paper.
        seed: seed of the adapters' initial values.
    """
    config = dataclasses.replace(teacher.config, lora_rank=lora_rank, lq_prior=lora_rank == 0)
    student = VARTransformer(config).to(next(teacher.parameters()).device)
    own = student.state_dict()
    for name, value in teacher.state_dict().items():
        adapted = name.replace(".weight", ".linear.weight").replace(".bias", ".linear.bias")
        own[name if name in own else adapted].copy_(value)
    if student.lq_prior is not None:
        scales = PIXEL_CLASSES[config.pixel_class]
        student.lq_prior.fill_(_COPIER_GAINS[1])
        student.lq_prior[:scales] = torch.linspace(*_COPIER_GAINS, scales)
        student.head.weight.zero_()
        student.head.bias.zero_()
        return student
    generator = torch.Generator().manual_seed(seed)
    student.requires_grad_(False)
    for module in student.modules():
        if isinstance(module, LoRALinear):
            down = module.lora_down.weight
            down.copy_(torch.randn(down.shape, generator=generator) * down.shape[1] ** -0.5)
            module.lora_up.weight.zero_()
            module.lora_down.requires_grad_(True)
            module.lora_up.requires_grad_(True)
    return student
