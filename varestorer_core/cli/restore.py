"""`varestorer restore`: pictures in, restored pictures of exactly the requested size out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import VARestorerError
from .jobs import Job, check_writable, plan_jobs
from .models import load_models, model_files, say_if_bundled
from .options import add_restore_options, settings_from

if TYPE_CHECKING:
    from torch import Tensor

    from ..pictures import Picture
    from ..restorer import Restorer
    from ..settings import RestoreSettings


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "restore",
        help="restore and enlarge pictures",
        description="Restore pictures. Each result has exactly round(width x UPSCALE) by "
        "round(height x UPSCALE) pixels.",
    )
    add_restore_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore every picture; return 1 if one of them failed."""
    from .device import device_and_dtype, peak_memory

    started = time.perf_counter()
    files = model_files(args)
    jobs, skipped = plan_jobs(args.input, args.output, compare=args.compare)
    settings = settings_from(args)
    device, dtype = device_and_dtype(args.device, args.dtype)
    check_writable(jobs[0].target.parent)
    say_if_bundled(files)
    restorer = load_models(files, settings, device=device, dtype=dtype)
    failed = sum(not _restore_job(job, restorer, settings, debug=args.debug) for job in jobs)
    counts = [f"{len(jobs) - failed} restored"]
    counts += [f"{failed} failed"] * bool(failed)
    counts += [f"{skipped} other files skipped"] * bool(skipped)
    seconds = time.perf_counter() - started
    print(f"{', '.join(counts)} in {seconds:.1f} s, peak memory {peak_memory(device)}")
    return 1 if failed else 0


def _restore_job(job: Job, restorer: Restorer, settings: RestoreSettings, *, debug: bool) -> bool:
    """Restore one picture and say so; tell whether it worked. A failure must not stop the others."""
    from ..tiles.batching import is_out_of_memory

    started = time.perf_counter()
    try:
        height, width = _restore_file(job, restorer, settings)
    except Exception as error:
        full = isinstance(error, MemoryError) or is_out_of_memory(error)
        if debug or not (full or isinstance(error, VARestorerError)):
            raise
        reason = "there is not enough memory. Use a smaller --upscale." if full else error
        print(f"varestorer: {job.source.name} failed: {reason}", file=sys.stderr)
        return False
    seconds = time.perf_counter() - started
    print(f"{job.source} -> {job.target}  {width} x {height}  {seconds:.1f} s", flush=True)
    return True


def _restore_file(job: Job, restorer: Restorer, settings: RestoreSettings) -> tuple[int, int]:
    """Read, restore and write one picture; return its new (height, width)."""
    from ..pictures import read_picture, write_picture
    from .compare import enlarge_bicubic, side_by_side

    picture = read_picture(job.source)
    _check_size(job, picture, settings.upscale)
    for note in picture.notes:
        note_about(job, note)
    restored = restore_rgb(picture.rgb, restorer, settings, job.source.name)
    size = restored.shape[-2], restored.shape[-1]
    write_result(job, picture, restored)
    if job.compare is not None:
        panels = [("input", enlarge_bicubic(picture.rgb, size)), ("restored", restored)]
        write_picture(job.compare, side_by_side(panels), icc_profile=picture.icc_profile)
    return size


def _check_size(job: Job, picture: Picture, upscale: float) -> None:
    from ..host_memory import check_results
    from ..pictures import check_target
    from ..resize import target_size

    height, width = target_size(*picture.size, upscale)
    check_results([(height, width)])
    check_target(job.target, (height, width))


def write_result(job: Job, picture: Picture, restored: Tensor) -> None:
    """Write a result with what its source had and its format can hold; say what is left out."""
    from ..pictures import ALPHA_FORMATS, DEEP_FORMATS, FORMATS, write_picture
    from ..resize import resize_lanczos

    file_format = FORMATS[job.target.suffix.lower()]
    alpha, bit_depth = picture.alpha, picture.bit_depth
    if alpha is not None and file_format not in ALPHA_FORMATS:
        note_about(job, f"has transparency, which {file_format} cannot hold: left out")
        alpha = None
    if bit_depth != 8 and file_format not in DEEP_FORMATS:
        note_about(job, f"has {bit_depth} bits per channel, written as {file_format} with 8")
        bit_depth = 8
    if alpha is not None:
        alpha = resize_lanczos(alpha, (restored.shape[-2], restored.shape[-1]))
    if picture.icc_profile is not None and file_format == "BMP":
        note_about(job, "has a colour profile, which BMP cannot hold: colours will look different")
    write_picture(
        job.target,
        restored,
        alpha,
        bit_depth=bit_depth,
        icc_profile=picture.icc_profile,
        grey=picture.grey,
        metadata=picture.metadata,
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


def note_about(job: Job, text: str) -> None:
    """Tell on stderr something about one picture."""
    print(f"varestorer: note: {job.source.name} {text}", file=sys.stderr)
