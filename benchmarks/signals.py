"""Kill restore, convert and distill at random moments, and check the files they leave.

    python benchmarks/signals.py                # 50 signals for each of the three commands
    python benchmarks/signals.py --count 5 --seed 1 --only convert

After every signal, the target is absent or complete, never partial; after the command has then run to its end, no
temporary file is left and the result is that of an undisturbed run. A training run continues from its last state. The
moments are drawn from a seed over the duration of an undisturbed run; SIGKILL, SIGTERM and SIGINT alternate. The last
line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from varestorer_core.assets import DEMO_LQ, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import read_checkpoint
from varestorer_core.config import TokenizerConfig, TransformerConfig, to_dict

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_LONGEST = 1800
"""Seconds that an undisturbed run may take."""


class Command:
    """The command in a separate process, as started by a shell in the foreground."""

    def __init__(self, arguments: list[str], log: Path):
        self._log = log.open("wb")
        # A shell makes background processes ignore SIGINT, which would be inherited from here.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "varestorer_core.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def wait(self, timeout: float) -> int | None:
        """Return the exit code; None if the process still runs after `timeout` seconds."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        self._log.close()
        return code

    def send(self, kind: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(kind)


def digest(path: Path) -> str:
    """Return a hash of a result: of its bytes, or of a training state's tensors."""
    if path.suffix != ".pt":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    state = torch.load(path, weights_only=True)
    found = hashlib.sha256(str(state["step"]).encode())
    for _, weights in sorted(state["modules"].items()):
        for _, value in sorted(weights.items()):
            found.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def is_whole(path: Path) -> bool:
    """Return whether a result can be read to its end."""
    from PIL import Image

    if path.suffix == ".png":
        with Image.open(path) as image:
            image.load()
    elif path.suffix == ".pt":
        torch.load(path, weights_only=True)
    else:
        read_checkpoint(path)
    return True


def command_of(name: str, folder: Path) -> tuple[list[str], Path]:
    """Return the arguments of a command in a folder, and the file that it writes."""
    if name == "restore":
        target = folder / "out.png"
        return ["restore", str(asset_path(DEMO_LQ)), "-o", str(target), "--upscale", "1"], target
    if name == "convert":
        target = folder / "out.safetensors"
        source = str(asset_path(TINY_TRANSFORMER))
        return ["convert", source, "-o", str(target), "--dtype", "fp32"], target
    config = folder.parent / "config.json"
    shapes = {
        "tokenizer": to_dict(TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1)),
        "transformer": to_dict(
            TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M")
        ),
    }
    config.write_text(json.dumps(shapes))
    arguments = ["distill", "tokenizer", "--out", str(folder), "--config", str(config)]
    arguments += [
        "--pictures",
        "4",
        "--steps",
        "12",
        "--batch",
        "2",
        "--save-every",
        "3",
        "--validation-pictures",
        "1",
        "--resume",
    ]
    return arguments, folder / "tokenizer" / "state.pt"


def campaign(name: str, count: int, seed: int, place: Path) -> dict[str, object]:
    """Interrupt one command `count` times and return the counts of outcomes."""
    chance = random.Random(f"{seed} {name}")
    reference, log = place / name / "reference", place / f"{name}.log"
    reference.mkdir(parents=True)
    arguments, target = command_of(name, reference)
    begun = time.perf_counter()
    if Command(arguments, log).wait(_LONGEST) != 0:
        raise SystemExit(f"{name} does not work undisturbed:\n{log.read_text()}")
    whole_run, wanted = time.perf_counter() - begun, digest(target)
    folder = place / name / "run"
    found: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        folder.mkdir(exist_ok=True, parents=True)
        arguments, target = command_of(name, folder)
        started = time.perf_counter()
        process = Command(arguments, log)
        kind = SIGNALS[number % len(SIGNALS)]
        if process.wait(whole_run * chance.uniform(0.02, 1.0)) is None:
            process.send(kind)
            begun = time.perf_counter()
            # A machine under load needs longer, both for the run and for its end.
            code = process.wait(120 + 5 * whole_run)
            if code is None:
                process.send(signal.SIGKILL)
                raise SystemExit(f"{name} does not end after {kind.name}:\n{log.read_text()}")
            slowest = max(slowest, time.perf_counter() - begun)
            found[kind.name] += 1
            found[f"ended by {_end(code)}"] += 1
            found["tracebacks"] += b"Traceback" in log.read_bytes()
        else:
            found["ended before the signal"] += 1
            # The machine became faster: later signals would come too late as well.
            whole_run = min(whole_run, time.perf_counter() - started)
        if not target.exists():
            found["nothing left"] += 1
        elif is_whole(target):
            found["a whole file left"] += 1
        # Then run to the end in the same folder.
        if Command(arguments, log).wait(_LONGEST) != 0:
            found["could not be finished"] += 1
            continue
        found["equal to the undisturbed run" if digest(target) == wanted else "different"] += 1
        left = [path for path in folder.rglob(".*") if path.suffix in (".tmp", ".part")]
        found["temporary files left"] += len(left)
        shutil.rmtree(folder)
    seconds = {"seconds undisturbed": round(whole_run, 1), "slowest end": round(slowest, 2)}
    return {**seconds, **dict(sorted(found.items()))}


def _end(code: int) -> str:
    """Return the signal that ended a process, or its exit code."""
    return signal.Signals(-code).name if code < 0 else str(code)


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(": ")[1] for x in lines if x.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50, help="signals for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("restore", "convert", "distill"))
    args = parser.parse_args()
    names = (args.only,) if args.only else ("restore", "convert", "distill")
    result: dict[str, object] = {"seed": args.seed, "count": args.count}
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            result[name] = campaign(name, args.count, args.seed, Path(place))
            print(f"{name}: {result[name]}", flush=True)
    system = {"torch": torch.__version__, "system": platform.system(), "processor": processor()}
    print(json.dumps({**result, **system}))


if __name__ == "__main__":
    main()
