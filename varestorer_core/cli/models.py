"""Loading of the networks of a run, from the user's files or the bundled ones."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets import ADAPTERS, CRISP, bundled_adapter, bundled_vae
from ..errors import SettingError
from ..wording import shown
from . import UsageError, note
from .options import between

if TYPE_CHECKING:
    import torch

    from ..restorer import Restorer


@dataclass(frozen=True)
class ModelFiles:
    """Paths from the command line; None means the bundled file, or none."""

    model: str | None = None
    vae: str | None = None
    text_encoder: str | None = None
    prompt: str | None = None
    cleaner: str | None = None
    adapters: tuple[tuple[str, float], ...] = ()
    """Pairs (file, strength)."""
    verify: bool = False
    """Compare the files with their checksums before they are loaded."""
    tile: int | None = None
    """Side of a tile in pixels; None means the model's own."""

    def absolute(self) -> ModelFiles:
        """Return the files with absolute paths."""

        def whole(path: str | None) -> str | None:
            return None if path is None else str(Path(path).absolute())

        return replace(
            self,
            model=whole(self.model),
            vae=self.vae if bundled_vae(self.vae) else whole(self.vae),
            text_encoder=whole(self.text_encoder),
            cleaner=whole(self.cleaner),
            adapters=tuple(
                (str(Path(path).absolute()), strength) for path, strength in self.adapters
            ),
        )


def model_files(args: argparse.Namespace) -> ModelFiles:
    """Return the files of the options, if they exist and belong together.

    Raises:
        UsageError: if not.
    """
    _check_prompts(args)
    named = {"--model": args.model, "--vae": args.vae, "--cleaner": args.cleaner}
    adapters = adapters_of(args)
    for option, path in named.items():
        bundled = option == "--vae" and bundled_vae(path) is not None
        if path is not None and not bundled and not Path(path).is_file():
            bundled = (
                f" Expected a file, or {CRISP} for the bundled crisp one."
                if option == "--vae"
                else ""
            )
            raise UsageError(f"{option} {path}: no such file.{bundled}")
    for path, _ in adapters:
        if not Path(path).exists():  # PEFT saves folders
            raise UsageError(
                f"--adapter {path}: no such file or folder. Bundled adapters are {', '.join(ADAPTERS)}."
            )
    if args.text_encoder is not None and not Path(args.text_encoder).is_dir():
        raise UsageError(f"--text-encoder {args.text_encoder}: no such folder.")
    return ModelFiles(
        args.model,
        args.vae,
        args.text_encoder,
        args.prompt,
        args.cleaner,
        adapters,
        args.verify,
        getattr(args, "tile", None),
    )


def adapters_of(args: argparse.Namespace) -> tuple[tuple[str, float], ...]:
    """Return file and strength of each --adapter.

    Raises:
        UsageError: for a strength that is not from 0 to 2, or a --adapter-strength without effect.
    """
    usual = 1.0 if args.adapter_strength is None else args.adapter_strength
    found = [_adapter_and_strength(text) for text in args.adapter]
    if args.adapter_strength is not None and all(strength is not None for _, strength in found):
        raise UsageError(
            "--adapter-strength has an effect only on an --adapter without a strength of its own. Leave it out."
        )
    return tuple((path, usual if strength is None else strength) for path, strength in found)


def _adapter_and_strength(text: str) -> tuple[str, float | None]:
    """Return file and strength of `FILE:STRENGTH`, or `FILE` and None; an existing file of that name takes precedence.

    A name of a bundled adapter means its file.

    Raises:
        UsageError: without a file, or for a strength that is not from 0 to 2.
    """
    path, colon, strength = text.rpartition(":")
    if not text or (colon and not path):
        raise UsageError(f"--adapter needs a file, or one of {', '.join(ADAPTERS)}, got {text!r}.")
    if bundled := bundled_adapter(text):
        return str(bundled), None
    if not colon or Path(text).exists():
        return text, None
    try:
        float(strength)
    except ValueError:
        return text, None  # the colon of a drive, or a missing file, which raises an error later
    try:
        return str(bundled_adapter(path) or path), between(0.0, 2.0)(strength)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--adapter {text}: the strength {error}.") from error


def _check_prompts(args: argparse.Namespace) -> None:
    """Raise an error if there are texts without an encoder, or an encoder without texts."""
    options = {
        "--prompt TEXT": "prompt",
        "--captions SOURCE": "captions",
        "--captioner FOLDER": "captioner",
    }
    known = {option: getattr(args, name) for option, name in options.items() if hasattr(args, name)}
    given = [option.split()[0] for option, value in known.items() if value is not None]
    if given and args.text_encoder is None:
        raise UsageError(f"{given[0]} has an effect only together with --text-encoder FOLDER.")
    if args.text_encoder is not None and not given:
        raise UsageError(f"--text-encoder has an effect only together with {' or '.join(known)}.")


def load_models(
    files: ModelFiles,
    *,
    device: torch.device,
    dtype: torch.dtype,
    prompts: Iterable[str] = (),
    compile: bool = False,  # noqa: A002 (named like torch.compile)
) -> Restorer:
    """Return a restorer for the files; see `loading.load_restorer`.

    Raises:
        CheckpointError: for a file of another kind, or a damaged one.
        UsageError: for files that do not belong together.
    """
    from ..loading import load_restorer

    try:
        return load_restorer(
            files.model,
            files.vae,
            cleaner=files.cleaner,
            adapters=files.adapters,
            text_encoder=files.text_encoder,
            prompt=files.prompt,
            prompts=prompts,
            device=device,
            dtype=dtype,
            compile=compile,
            verify=files.verify,
            tile=files.tile,
        )
    except SettingError as error:
        raise UsageError(str(error)) from error


def say_if_bundled(files: ModelFiles) -> None:
    """Print a note on stderr if the tiny bundled model is used."""
    if files.model is None:
        note(
            "using the bundled tiny model, which is meant for trying out. Use --model and --vae for the official one."
        )
    for name in ADAPTERS:
        if Path(name).exists() and any(
            Path(file) == bundled_adapter(name) for file, _ in files.adapters
        ):
            note(f"--adapter {name} is the bundled adapter; ./{name} is the file of that name")


def recommended_settings(files: ModelFiles) -> dict[str, Any]:
    """Return the settings that suit the model and its adapters. The last adapter takes precedence.

    What adapters recommend is printed on stderr.

    Raises:
        CheckpointError: for a file that is not a checkpoint, or whose recommendation is damaged.
    """
    from ..assets import TINY_TRANSFORMER, asset_path
    from ..checkpoint import identify, read_checkpoint
    from ..config import TransformerConfig, recommended_detail
    from ..lora.recommended import recommended_by

    settings: dict[str, Any] = {}
    model = files.model or asset_path(TINY_TRANSFORMER)
    config = identify(*read_checkpoint(model, kind="transformer")).config
    if isinstance(config, TransformerConfig):  # other files are refused when the models are loaded
        settings["detail"] = recommended_detail(config)
    for path, strength in files.adapters:
        name = Path(path).name
        found = recommended_by(read_checkpoint(path)[1], name)
        if strength and found.settings:
            listed = ", ".join(
                f"--{key.replace('_', '-')} {value}" for key, value in found.settings.items()
            )
            task = f" ({found.task})" if found.task else ""
            text = shown(f"{name}{task} recommends {listed}; options override it")
            print(f"varestorer: {text}", file=sys.stderr)
            settings |= found.settings
    return settings
