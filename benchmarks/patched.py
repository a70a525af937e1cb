"""Adapters that a ComfyUI patches into the weights: time of patching, and of the transformer afterwards.

    python benchmarks/patched.py HOST [--size full --folder FOLDER] [--dtype bf16] [--gpu]

The script restarts itself with the host's own Python in the host's folder, where it builds the transformer with the
host's layers and passes the patches to the host's memory manager, like nodes/host. A first pass over one tile is not
counted. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

CASE = "adapters patched by the host"
HERE = Path(__file__).resolve().parent


def patched_row(host, size, folder, dtype, *, gpu=False):
    """Return the row of one host."""
    host = Path(host).expanduser().resolve()
    if not (host / "main.py").is_file():
        return {"case": CASE, "skipped": f"{host} is not a ComfyUI folder: expected main.py in it"}
    sys.path.insert(0, str(HERE))
    from host_start import host_python

    command = [host_python(host), __file__, "here", "--size", size, "--dtype", dtype]
    command += ["--folder", str(Path(folder).resolve())] if folder else []
    command += ["--gpu"] if gpu else []
    paths = os.pathsep.join(map(str, (host, HERE, HERE.parent)))
    done = subprocess.run(
        command,
        cwd=host,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"case": CASE, "host": host.name, "failed": done.stderr.strip()[-300:]}
    return {"case": CASE, "host": host.name, **json.loads(done.stdout.splitlines()[-1])}


def measure_here(args):
    """Measure in the process of a host; return the seconds of patching, and of one pass before and after."""
    # The host parses the command line when it is imported.
    sys.argv = [sys.argv[0], *([] if args.gpu else ["--cpu"])]
    import comfy.options  # pyright: ignore[reportMissingImports]

    comfy.options.enable_args_parsing()
    import comfy.model_management as mm  # pyright: ignore[reportMissingImports]
    import comfy.model_patcher  # pyright: ignore[reportMissingImports]
    import comfy.ops  # pyright: ignore[reportMissingImports]
    import torch
    from comfy.weight_adapter import LoRAAdapter  # pyright: ignore[reportMissingImports]
    from measure import DTYPES, clock
    from networks import transformer_tensors

    from varestorer_core.checkpoint import load_transformer, unwrap
    from varestorer_core.checkpoint.keys import rename_tensors
    from varestorer_core.lora.factors import low_ranks, split_adapter
    from varestorer_core.models.bsq import pyramid_tokens
    from varestorer_core.schedule import get_schedule

    tensors, _ = transformer_tensors(args.size, args.folder)
    tensors = rename_tensors(unwrap(tensors, "transformer", name="the file"), "transformer")
    base, adapter = split_adapter(tensors)
    owners = low_ranks(base, adapter)
    device, dtype = mm.get_torch_device(), DTYPES[args.dtype]
    compute = mm.unet_manual_cast(dtype, device, [torch.bfloat16, torch.float32]) or dtype
    model = load_transformer(
        base,
        operations=comfy.ops.manual_cast,
        dtype=dtype,
        device=mm.unet_offload_device(),
        compute_dtype=compute,
    )
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    plain = kind(model, load_device=device, offload_device=mm.unet_offload_device())
    patched = plain.clone()
    patched.add_patches(
        {
            f"{owner}.weight": LoRAAdapter(set(), (pair.up, pair.down, None, None, None, None))
            for owner, pair in owners.items()
        },
        1.0,
    )
    schedule = get_schedule(1.0, model.config.pixel_class)
    bits = torch.rand(1, schedule.num_tokens, model.config.codebook_dim, device=device) < 0.5
    tokens = pyramid_tokens(bits, schedule, "long")

    @torch.inference_mode()
    def seconds(work):
        begun = clock(device)
        work()
        return round(clock(device) - begun, 4)

    def one_pass():
        model(tokens, model.encode_text(device=device), schedule, lq_bits=bits)

    with torch.inference_mode():
        mm.load_models_gpu([plain])
        one_pass()
    result = {"unpatched_seconds": seconds(one_pass)}
    result["patching_seconds"] = seconds(lambda: mm.load_models_gpu([patched]))
    result["patched_seconds"] = seconds(one_pass)
    return {
        **result,
        "patches": len(owners),
        "multiplies_in": str(compute).removeprefix("torch."),
        "device": str(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("host", help="folder of a ComfyUI")
    parser.add_argument("--size", choices=("narrow", "full"), default="narrow")
    parser.add_argument("--folder", help="folder of the full-size files, by make_full_size.py")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--gpu", action="store_true", help="the host's device instead of the CPU")
    args = parser.parse_args()
    if args.host == "here":
        result = measure_here(args)
    else:
        result = patched_row(args.host, args.size, args.folder, args.dtype, gpu=args.gpu)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
