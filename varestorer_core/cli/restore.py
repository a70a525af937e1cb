"""`varestorer restore`: pictures in, restored pictures of exactly the requested size out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from .batch import Batch, Report
from .jobs import Job, check_writable, plan_jobs
from .manifest import FILE_NAME, Manifest, file_mark
from .models import (
    ModelFiles,
    load_models,
    model_files,
    recommended_settings,
    say_if_bundled,
)
from .options import add_file_options, add_restore_options, settings_from

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..pictures import Picture
    from ..restorer import Restorer
    from ..settings import RestoreSettings

_MODEL_FILES = ("model", "vae", "text_encoder", "cleaner")


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "restore",
        help="restore and enlarge pictures",
        description="Restore pictures. Each result has exactly round(width x UPSCALE) by "
        "round(height x UPSCALE) pixels.",
    )
    add_restore_options(parser)
    add_file_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore every picture; return 1 if one of them failed."""
    from .device import device_and_dtype, peak_memory

    started = time.perf_counter()
    files = model_files(args)
    jobs, skipped = plan_jobs(
        args.input, args.output, compare=args.compare, recursive=args.recursive
    )
    settings = settings_from(args, recommended_settings(files))
    device, dtype = device_and_dtype(args.device, args.dtype)
    check_writable(jobs[0].target.parent)
    batch = Batch(
        "restored",
        _recorded(args, files, settings, device, dtype),
        _manifest(args, jobs),
        args.skip_existing,
        args.json,
        args.debug,
    )
    say_if_bundled(files)
    restorer = load_models(files, device=device, dtype=dtype, compile=args.compile)
    batch.run(
        jobs,
        lambda job, _, report: _restore_file(
            job, report, restorer, settings, neutral=args.neutral, strip=args.strip
        ),
    )
    seconds = time.perf_counter() - started
    memory = peak_memory(device)
    batch.summary(
        skipped,
        f" in {seconds:.1f} s, peak memory {memory}",
        seconds=round(seconds, 1),
        peak_memory=memory,
    )
    return 1 if batch.failed else 0


def _manifest(args: argparse.Namespace, jobs: list[Job]) -> Manifest | None:
    """Return the record that was asked for; to skip what is done, one is needed."""
    if args.manifest is not None:
        return Manifest(Path(args.manifest))
    if not args.skip_existing:
        return None
    output = Path(args.output)
    folder = output if output.is_dir() else jobs[0].target.parent
    return Manifest(folder / FILE_NAME)


def _recorded(
    args: argparse.Namespace,
    files: ModelFiles,
    settings: RestoreSettings,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Return all that decides the results' bytes, for the records. The tile batch does not."""
    values = {name: value for name, value in asdict(settings).items() if name != "tile_batch"}
    named = {name: file_mark(getattr(files, name)) for name in _MODEL_FILES}
    return {
        **values,
        **named,
        "adapters": [[file_mark(path), strength] for path, strength in files.adapters],
        "prompt": files.prompt,
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "neutral": args.neutral,
        "strip": args.strip,
        "version": __version__,
    }


def _restore_file(
    job: Job,
    report: Report,
    restorer: Restorer,
    settings: RestoreSettings,
    *,
    neutral: bool,
    strip: bool,
) -> tuple[int, int]:
    """Read, restore and write one picture; return its new (height, width)."""
    from ..pictures import read_picture, without_metadata, write_picture
    from .compare import enlarge_bicubic, side_by_side

    picture = read_picture(job.source)
    _check_size(job, picture, settings.upscale)
    for text in picture.notes:
        report.note(text)
    picture = without_metadata(picture) if strip else picture
    if neutral and is_neutral(picture.rgb):
        picture = replace(picture, grey=True)
    restored = restore_rgb(picture.rgb, restorer, settings, job.source.name)
    size = restored.shape[-2], restored.shape[-1]
    if job.compare is not None:
        panels = [("input", enlarge_bicubic(picture.rgb, size)), ("restored", restored)]
        write_picture(job.compare, side_by_side(panels), icc_profile=picture.icc_profile)
    write_result(job, picture, restored, report)
    return size


def is_neutral(rgb: Tensor) -> bool:
    """Tell whether a picture (3, H, W) in [0, 1] has no colour: its channels are equal to 1 / 255."""
    return bool((rgb.amax(0) - rgb.amin(0)).max() <= 1.001 / 255)


def _check_size(job: Job, picture: Picture, upscale: float) -> None:
    from ..host_memory import check_results
    from ..pictures import check_target
    from ..resize import target_size

    height, width = target_size(*picture.size, upscale)
    check_results([(height, width)])
    check_target(job.target, (height, width))


def write_result(job: Job, picture: Picture, restored: Tensor, report: Report) -> None:
    """Write a result with what its source had and its format can hold; say what is left out."""
    from ..pictures import ALPHA_FORMATS, DEEP_FORMATS, FORMATS, write_picture
    from ..resize import resize_lanczos

    file_format = FORMATS[job.target.suffix.lower()]
    size = restored.shape[-2], restored.shape[-1]
    alpha, bit_depth = picture.alpha, picture.bit_depth
    if alpha is not None and file_format not in ALPHA_FORMATS:
        report.note(f"has transparency, which {file_format} cannot hold: left out")
        alpha = None
    if bit_depth != 8 and file_format not in DEEP_FORMATS:
        report.note(f"has {bit_depth} bits per channel, written as {file_format} with 8")
        bit_depth = 8
    if picture.icc_profile is not None and file_format == "BMP":
        report.note("has a colour profile, which BMP cannot hold: colours will look different")
    write_picture(
        job.target,
        restored,
        None if alpha is None else resize_lanczos(alpha, size),
        bit_depth=bit_depth,
        icc_profile=picture.icc_profile,
        grey=picture.grey,
        metadata=picture.metadata,
        on_encoded=lambda content: report.will_write(content, size),
    )


def restore_rgb(rgb: Tensor, restorer: Restorer, settings: RestoreSettings, name: str) -> Tensor:
    """Return the restored picture (3, H', W') of one (3, H, W), under a progress bar."""
    with _progress_bar(name) as on_progress:
        return restorer.restore(rgb, settings, on_progress=on_progress)


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    # Three steps a tile: encode, restore, decode.
    with tqdm(desc=name, unit="step", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
