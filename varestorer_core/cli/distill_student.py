"""Options of `varestorer distill` for the student: its losses, its ablations, and starting from files."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import UsageError
from .degrade import PRESETS
from .options import between, integer

if TYPE_CHECKING:
    from torch import Tensor

    from ..distill.base import BaseFiles
    from ..distill.run import RunSettings
    from ..distill.train_student import StudentSettings

_WEIGHTS = ("kl", "mse", "perceptual_weight", "cross_entropy", "adversarial")
_FULL_SIZE_RANK = 32
FULL_SIZE_BATCH = 1
_WEIGHT = between(0, 1e6)


def add_student_options(parser: argparse.ArgumentParser) -> None:
    """Add the training options of the student."""
    group = parser.add_argument_group("encoder and student")
    group.add_argument(
        "--degradation",
        metavar="PRESETS",
        help="comma-separated presets, one of which is drawn for each training picture (default: x4,mild; with "
        "--base: official); NAME@S reduces it S times and enlarges it again, as in restoring at scale S; presets: "
        + ", ".join(PRESETS),
    )
    group.add_argument(
        "--rank",
        "--lora-rank",
        dest="lora_rank",
        type=integer(0, None),
        help="train only adapters of this rank; 0 trains every weight (default: 0; with --base: 32)",
    )
    group.add_argument(
        "--encoder-rank",
        type=integer(0, None),
        default=0,
        help="encoder: train only a low-rank correction of this rank for each convolution; 0 trains every "
        "weight (default: %(default)s)",
    )
    group.add_argument(
        "--kl", type=_WEIGHT, help="weight of the KL divergence from the teacher (default: 0.1)"
    )
    group.add_argument(
        "--mse", type=_WEIGHT, help="weight of the picture's squared error (default: 0.25)"
    )
    group.add_argument(
        "--train-decoder",
        action="store_true",
        help="student: train the decoder with it",
    )
    group.add_argument(
        "--edges",
        type=_WEIGHT,
        metavar="WEIGHT",
        help="encoder and decoder stages: weights of one minus the gradient similarity, and of its "
        "deviation (default: 1; crisp_decoder: 0.5, and 0)",
    )
    group.add_argument(
        "--perceptual",
        choices=("structural", "lpips"),
        default="structural",
        help="kind of the perceptual loss; lpips needs its package and weights (default: %(default)s)",
    )
    group.add_argument(
        "--perceptual-weight", type=_WEIGHT, help="weight of the perceptual loss (default: 0.5)"
    )
    group.add_argument(
        "--cross-entropy",
        type=_WEIGHT,
        help="weight of the cross entropy of the clean bits (default: 0, as in the paper)",
    )
    group.add_argument(
        "--adversarial",
        type=between(0, 1e6),
        metavar="WEIGHT",
        help="weight of the adversarial loss (default: 0; crisp_decoder: 0.05)",
    )
    ablations = parser.add_argument_group("student, ablations of the paper")
    ablations.add_argument(
        "--no-distill",
        action="store_true",
        help="no teacher and no picture losses: only the cross entropy of the clean picture's tokens",
    )
    ablations.add_argument(
        "--no-cross-scale",
        "--causal",
        dest="causal",
        action="store_true",
        help="no scale of the student attends to a finer one",
    )
    ablations.add_argument("--no-kl", action="store_true", help="no teacher; other losses remain")


def add_full_size_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for training adapters on a base from a file."""
    from ..schedule import PIXEL_CLASSES

    group = parser.add_argument_group("full size: encoder and student on files")
    group.add_argument("--base", metavar="FILE", help="teacher, such as infinity_2b_reg.pth")
    group.add_argument("--vae", metavar="FILE", help="its tokenizer: infinity_vae_d32reg.pth")
    group.add_argument(
        "--pixel-class",
        choices=list(PIXEL_CLASSES),
        help="tile to train on: 256, 512, 768 or 1024 pixels for the official tokenizer (default: the base's)",
    )
    group.add_argument(
        "--base-dtype",
        choices=("bf16", "fp32"),
        default="bf16",
        help="type of the base's weights; adapters are float32 (default: %(default)s)",
    )
    group.add_argument(
        "--checkpointing",
        action=argparse.BooleanOptionalAction,
        help="recompute the activations of each block in the backward pass instead of storing them: "
        "less memory, a third slower (default: only with --base)",
    )
    group.add_argument(
        "--accelerate",
        action="store_true",
        help="train on all processes that `accelerate launch` started (needs the package)",
    )
    group.add_argument(
        "--prompt", metavar="TEXT", help="prompt for all pictures; see --text-encoder"
    )
    group.add_argument("--text-encoder", metavar="FOLDER", help="local copy of flan-t5-xl")


def student_settings(args: argparse.Namespace, default: StudentSettings) -> StudentSettings:
    """Return the student's settings; options that were not given keep their defaults.

    Raises:
        UsageError: for options that contradict each other.
    """
    from ..distill.variants import no_distillation, no_kl

    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in (*_WEIGHTS, "lora_rank", "batch")
        if getattr(args, name) is not None
    }
    full_size = args.base is not None
    if full_size:
        default = replace(default, lora_rank=_FULL_SIZE_RANK, batch=FULL_SIZE_BATCH)
    if full_size and args.train_decoder:
        raise UsageError(
            "--train-decoder trains a run's own decoder; that of --vae stays as it is."
        )
    if full_size and given.get("lora_rank") == 0:
        raise UsageError("--base trains adapters only: specify a --rank of at least 1.")
    checkpointing = full_size if args.checkpointing is None else args.checkpointing
    settings = replace(
        default,
        degradation=degradation(args),
        perceptual=args.perceptual,
        causal=args.causal,
        checkpointing=checkpointing,
        train_decoder=args.train_decoder,
        amp=args.amp,
        **given,
    )
    if args.no_distill and (args.no_kl or any(name in given for name in _WEIGHTS)):
        raise UsageError(
            "--no-distill trains on cross entropy alone. Leave out --no-kl and the weights of losses."
        )
    if args.no_kl and args.kl:
        raise UsageError(f"--no-kl and --kl {args.kl:g} contradict each other. Leave one out.")
    if args.no_distill:
        settings = no_distillation(settings)
    return no_kl(settings) if args.no_kl else settings


def degradation(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the presets of the training pictures."""
    from ..distill.degrade import parse_mix

    usual = "official" if args.base is not None else "x4,mild"
    return parse_mix(usual if args.degradation is None else args.degradation)


def base_files(args: argparse.Namespace) -> BaseFiles | None:
    """Return the files to start from, if any were named.

    Raises:
        UsageError: if one is missing, or does not exist.
    """
    if args.base is None and (args.vae is None or args.stage == "import"):
        if args.pixel_class is not None:
            raise UsageError("--pixel-class has an effect only together with --base and --vae.")
        return None
    if args.stage == "import":
        raise UsageError("--base has no effect in the stage import. Leave it out, or use --model.")
    if args.base is None or args.vae is None:
        raise UsageError("--base and --vae belong together: specify both, or neither.")
    for option, path in (("--base", args.base), ("--vae", args.vae)):
        if not Path(path).is_file():
            raise UsageError(f"{option} {path}: no such file.")
    from ..distill.base import BaseFiles

    return BaseFiles(Path(args.base), Path(args.vae), args.pixel_class, args.base_dtype)


def encode_prompt(args: argparse.Namespace, settings: RunSettings) -> Tensor | None:
    """Return the prompt's features (1, T, text_channels) on the training device; None without a prompt."""
    if (args.prompt is None) != (args.text_encoder is None):
        raise UsageError("--prompt and --text-encoder belong together: specify both, or neither.")
    if args.prompt is None:
        return None
    import torch

    from ..text_encoder import load_text_encoder

    channels = (
        settings.transformer.text_channels
        if settings.base is None
        else settings.base.shapes()[1].text_channels
    )
    encoder = load_text_encoder(
        args.text_encoder, channels=channels, dtype=torch.bfloat16, device=settings.device
    )
    features, mask = encoder.encode(args.prompt)
    return features[:, mask[0].bool()].float().to(settings.device)
