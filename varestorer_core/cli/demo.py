"""`varestorer demo`: restore the bundled picture with the bundled model and measure the result."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..settings import RestoreSettings
from .jobs import check_writable
from .restore import restore_rgb


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "demo",
        help="restore a bundled picture with the bundled model",
        description="Restore the bundled degraded picture with the bundled tiny model on the CPU, "
        "write the result and a side-by-side picture, and print how close input and result are to the original.",
    )
    parser.add_argument(
        "-o", "--output", default="demo", metavar="DIR", help="folder (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Restore the demonstration picture."""
    folder = Path(args.output)
    check_writable(folder)

    from ..assets import DEMO_LQ, DEMO_ORIGINAL, asset_path
    from ..evaluate import score
    from ..loading import load_restorer
    from ..pictures import read_picture, write_picture
    from ..resize import enlarge_bicubic
    from .compare import side_by_side

    lq = read_picture(asset_path(DEMO_LQ)).rgb
    original = read_picture(asset_path(DEMO_ORIGINAL)).rgb
    size = original.shape[-2], original.shape[-1]
    settings = RestoreSettings(upscale=size[0] / lq.shape[-2])
    restorer = load_restorer(device="cpu", dtype="fp32")
    started = time.perf_counter()
    restored = restore_rgb(lq, restorer, settings, DEMO_LQ)
    seconds = time.perf_counter() - started

    restored_path = folder / "demo_restored.png"
    compare_path = folder / "demo_side_by_side.png"
    write_picture(restored_path, restored)
    enlarged = enlarge_bicubic(lq, size)
    panels = [("input (bicubic)", enlarged), ("restored", restored), ("original", original)]
    write_picture(compare_path, side_by_side(panels))

    print(f"{lq.shape[-1]} x {lq.shape[-2]} -> {size[1]} x {size[0]} in {seconds:.1f} s on the CPU")
    for label, picture in (("input (bicubic)", enlarged), ("restored", restored)):
        scores = score(picture, original)
        print(
            f"{label + ':':17} PSNR {scores.psnr:6.2f} dB  SSIM {scores.ssim:.4f}  (against the original)"
        )
    print(f"wrote {restored_path} and {compare_path}")
    return 0
