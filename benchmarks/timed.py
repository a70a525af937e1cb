"""A timed restoration, stage by stage, and its cost as a row of a report."""

from __future__ import annotations

import torch
from measure import DTYPES, Stages, forget_peaks, matrix_rate, peak_memory, resident_memory
from networks import flops_of_a_tile

from varestorer_core.pipeline import decode_tiles, encode_pyramid, restore_codes
from varestorer_core.settings import RestoreSettings


class TimedTransformer:
    """A transformer for `restore_codes`, with a timer."""

    def __init__(self, model, stages, call=None):
        self.config = model.config
        self._run = stages.timed("transformer", model if call is None else call)

    def __call__(self, *args, **kwargs):
        return self._run(*args, **kwargs)


@torch.inference_mode()
def restore(networks, pictures, args, *, batch=1, call=None, cleaner=None):
    """Restore pictures stage by stage; return the stages' times, the number of tiles and the results."""
    device, stages = args.device, Stages(args.device)
    text = stages.timed("prompt", networks.transformer.encode_text)()
    pyramid = stages.timed("pyramid", encode_pyramid)(
        pictures,
        stages.timed("encode", lambda tiles: networks.tokenizer.encode(tiles.to(device))),
        RestoreSettings(upscale=1.0, overlap=networks.tile // 8),
        schedule=networks.schedule,
        patch_size=networks.tokenizer.config.patch_size,
        tile_batch=batch,
        clean=None if cleaner is None else stages.timed("clean", cleaner),
    )
    codes = stages.timed("pyramid", restore_codes)(
        TimedTransformer(networks.transformer, stages, call),
        pyramid,
        text,
        tile_batch=batch,
        device=device,
    )
    results = stages.timed("blend", decode_tiles)(
        stages.timed("decode", lambda part: networks.tokenizer.decode(part.to(device))),
        codes,
        pyramid.geometry,
        color_match="wavelet",
        tile_batch=batch,
    )
    stages.take_away("pyramid", "encode", "transformer", "clean")
    stages.take_away("blend", "decode")
    return stages, len(pyramid.bits), results


def row(name, args, networks, work):
    """Measure one case, print a line and return a dictionary; `work` returns (stages, tiles, ...)."""
    dtype = DTYPES.get(args.dtype, torch.bfloat16)
    before = matrix_rate(args.device, dtype)
    resident = resident_memory()
    forget_peaks(args.device)
    stages, tiles, *_ = work()
    host, on_device = peak_memory(args.device)
    rate = (before + matrix_rate(args.device, dtype)) / 2
    names = [part for part in stages.seconds if part != "all"]
    flops = flops_of_a_tile(networks)
    result = {
        "case": name,
        "tiles": tiles,
        "seconds": {n: round(stages.seconds[n], 4) for n in names},
        "wall_seconds": round(sum(stages.wall[n] for n in names), 2),
        "together_seconds": round(sum(stages.seconds[n] for n in names), 4),
        "tflop_at_matrix_rate": {n: round(stages.seconds[n] * rate / 1e12, 4) for n in names},
        "share_of_rate": {
            n: round(flops[n] * tiles / (stages.seconds[n] * rate), 3) for n in names if n in flops
        },
        "matrix_gflops": round(rate / 1e9, 1),
        "peak_host_bytes": host,
        "peak_host_bytes_above_start": host - resident,
        "peak_device_bytes": on_device,
    }
    seconds = "  ".join(f"{n} {stages.seconds[n]:.3f}" for n in names)
    each = result["together_seconds"] / max(1, tiles)
    print(f"{name}: {tiles} tiles, {each:.4f} s each | {seconds} | {host / 1e9:.2f} GB", flush=True)
    return result
