"""`varestorer restore`: restore pictures to exactly the requested size."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..assets import bundled_vae
from ..wording import counted
from . import UsageError
from .batch import Batch, Worker
from .captioning import add_caption_options, planned_captions
from .effects import check_cluster_options, check_device_options, check_quality, check_threads
from .jobs import Job, check_format, check_writable, plan_jobs
from .manifest import file_mark, run_manifest
from .models import (
    ModelFiles,
    load_models,
    model_files,
    recommended_settings,
    say_if_bundled,
)
from .options import add_file_options, add_restore_options, settings_from
from .restoring import GROUP_PIXELS, Restoring

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..restorer import Restorer
    from ..settings import RestoreSettings
    from .cluster_resources import Cluster

_NAMES = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
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
    add_caption_options(parser)
    add_file_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore every picture; return 1 if one of them failed or was skipped."""
    from .device import peak_memory

    started = time.perf_counter()
    check_cluster_options(args)
    check_device_options(args)
    files = model_files(args)
    if args.cluster is not None:
        from .cluster import check_ray

        check_ray()
    jobs, skipped = plan_jobs(
        args.input,
        args.output,
        compare=args.compare,
        ending=f".{args.format or 'png'}",
        recursive=args.recursive,
        suffix=args.suffix,
        remote=args.cluster is not None,
    )
    check_format(args.format, jobs[0].target)
    check_quality(args.quality, jobs[0].target)
    captions = planned_captions(args, jobs)
    cluster, devices, found, kind, dtype = None, [], None, "", ""
    if args.cluster is None:
        devices, found = devices_and_dtype(args)
        kind, dtype = devices[0].type, _NAMES[str(found)]
    check_writable(jobs[0].target.parent)
    manifest = run_manifest(args, jobs[0].target)
    if args.cluster is not None:
        from .cluster import connected
        from .cluster_resources import cluster_device

        cluster = connected(args.cluster)
        kind, dtype = cluster_device(cluster, args.device), args.dtype
        check_threads(args.threads, kind)
        dtype = "fp32" if (kind, dtype) == ("cpu", "auto") else dtype
    settings = settings_from(args, recommended_settings(files))
    batch = Batch(
        "restored",
        recorded(args, files, settings, kind, dtype),
        manifest=manifest,
        skip_existing=args.skip_existing,
        json_lines=args.json,
        debug=args.debug,
        own=captions.recorded(),
    )
    say_if_bundled(files)
    steps = Restoring(settings, args.strip, args.neutral, args.quality, captions)
    if cluster is not None:
        actors = _on_cluster(cluster, args, files, steps, jobs, batch)
        seconds = time.perf_counter() - started
        end = f" in {seconds:.1f} s by {counted(actors, 'actor')}"
        batch.summary(skipped, end, seconds=round(seconds, 1), actors=actors)
        return 1 if batch.failed or skipped.pictures else 0
    assert found is not None
    workers = [
        steps.worker(
            load_models(
                files,
                device=device,
                dtype=found,
                prompts=captions.prompts(batch, device, found),
                compile=args.compile,
            ),
            batch.stop,
        )
        for device in devices
    ]
    on_cpu = any(device.type == "cpu" for device in devices)
    batch.run(jobs, steps, workers, 0 if on_cpu else GROUP_PIXELS)
    seconds = time.perf_counter() - started
    memory = peak_memory(devices[0])
    waited = f", {batch.waited:.1%} of the time waiting for files" if len(jobs) > 1 else ""
    batch.summary(
        skipped,
        f" in {seconds:.1f} s, peak memory {memory}{waited}",
        seconds=round(seconds, 1),
        peak_memory=memory,
        waited=round(batch.waited, 4),
    )
    return 1 if batch.failed or skipped.pictures else 0


def _on_cluster(
    cluster: Cluster,
    args: argparse.Namespace,
    files: ModelFiles,
    steps: Restoring,
    jobs: Sequence[Job],
    batch: Batch,
) -> int:
    """Process every job on a cluster and return the number of actors."""
    from .cluster import ActorSettings, run_on_cluster

    device, dtype = batch.settings["device"], batch.settings["dtype"]
    make = partial(_actor_worker, files.absolute(), steps, device, dtype, args.compile)
    given = ActorSettings(steps, make, device, args.threads or 1)
    return run_on_cluster(cluster, args.workers, given, jobs, batch)


def _actor_worker(
    files: ModelFiles, steps: Restoring, device: str, dtype: str, compiled: bool
) -> Worker:
    """Load the models in an actor."""
    import torch

    from ..devices import choose_dtype

    where = torch.device(device)
    models = load_models(files, device=where, dtype=choose_dtype(dtype, where), compile=compiled)
    return steps.worker(models)


def devices_and_dtype(args: argparse.Namespace) -> tuple[list[torch.device], torch.dtype]:
    """Return the devices of --devices, or the one of --device, and the dtype for the first of them.

    Raises:
        UsageError: for a device that does not exist, or devices of several kinds, whose results would differ.
    """
    from .device import device_and_dtype

    if args.devices is None:
        device, dtype = device_and_dtype(args.device, args.dtype)
        return [device], dtype
    names = [name.strip() for name in args.devices.split(",")]
    names = [f"cuda:{name}" if name.isdecimal() else name for name in names]
    found = [device_and_dtype(name, args.dtype) for name in names]
    if len({(device.type, dtype) for device, dtype in found}) > 1:
        raise UsageError(
            f"--devices {args.devices}: the devices must be of one kind, or results would differ."
        )
    return [device for device, _ in found], found[0][1]


def recorded(
    args: argparse.Namespace,
    files: ModelFiles,
    settings: RestoreSettings,
    device: str,
    dtype: str,
) -> dict[str, Any]:
    """Return everything that determines the results' bytes, for the manifest. The tile batch does not."""
    values = {name: value for name, value in asdict(settings).items() if name != "tile_batch"}
    named = {name: file_mark(getattr(files, name)) for name in _MODEL_FILES if name != "vae"}
    named["vae"] = files.vae if bundled_vae(files.vae) else file_mark(files.vae)
    return {
        **values,
        **named,
        "adapters": [[file_mark(path), strength] for path, strength in files.adapters],
        "prompt": files.prompt,
        "tile": files.tile,
        "device": device,
        "dtype": dtype,
        "neutral": args.neutral,
        "strip": args.strip,
        "quality": args.quality,
        "version": __version__,
    }


def restore_rgb(rgb: Tensor, restorer: Restorer, settings: RestoreSettings, name: str) -> Tensor:
    """Restore a picture (3, H, W) to (3, H', W') and show a progress bar."""
    with _progress_bar(name) as on_progress:
        return restorer.restore(rgb, settings, on_progress=on_progress)


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    # Three steps per tile: encode, restore, decode. disable=None: on terminals only.
    with tqdm(desc=name, unit="step", leave=False, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
