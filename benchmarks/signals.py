"""Kill restore, convert and distill at random moments, and look at what they leave.

    python benchmarks/signals.py                # 50 signals for each of the three commands
    python benchmarks/signals.py --count 5 --seed 1 --only convert

After every signal the target is absent or whole, never half written; once the command has then run to its end, no
temporary file is left and the result is that of a run that was never disturbed. A training run continues from its last
state. The moments are drawn from a seed over the time that an undisturbed run takes; SIGKILL, SIGTERM and SIGINT take
turns. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from varestorer_core.assets import DEMO_LQ, TINY_TRANSFORMER, asset_path
from varestorer_core.checkpoint import read_checkpoint
from varestorer_core.cli.main import main as main_of_command
from varestorer_core.config import TokenizerConfig, TransformerConfig, to_dict

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Child:
    """The command in a process of its own, forked so that starting it costs no import."""

    def __init__(self, arguments: list[str], log: Path):
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                with log.open("ab") as file:
                    os.dup2(file.fileno(), 1)
                    os.dup2(file.fileno(), 2)
                code = main_of_command(arguments)
            finally:
                os._exit(code)

    def wait(self, timeout: float) -> int | None:
        """Return the exit code, None if the process still runs after so many seconds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def send(self, kind: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, kind)


def digest(path: Path) -> str:
    """Return what decides whether two results are equal: bytes, or a training state's tensors."""
    if path.suffix != ".pt":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    state = torch.load(path, weights_only=True)
    found = hashlib.sha256(str(state["step"]).encode())
    for _, weights in sorted(state["modules"].items()):
        for _, value in sorted(weights.items()):
            found.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def is_whole(path: Path) -> bool:
    """Tell whether a result can be read to its end."""
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
    """Return the arguments of a command that works in a folder, and the file that it writes."""
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
    """Disturb one command so many times and return what was found."""
    chance = random.Random(f"{seed} {name}")
    reference = place / name / "reference"
    reference.mkdir(parents=True)
    arguments, target = command_of(name, reference)
    begun = time.perf_counter()
    if Child(arguments, place / f"{name}.log").wait(600) != 0:
        raise SystemExit(
            f"{name} does not work undisturbed:\n{(place / f'{name}.log').read_text()}"
        )
    whole_run, wanted = time.perf_counter() - begun, digest(target)
    folder = place / name / "run"
    found: Counter[str] = Counter()
    for number in range(count):
        folder.mkdir(exist_ok=True, parents=True)
        arguments, target = command_of(name, folder)
        process = Child(arguments, place / f"{name}.log")
        kind = SIGNALS[number % len(SIGNALS)]
        if process.wait(whole_run * chance.uniform(0.02, 1.0)) is None:
            process.send(kind)
            if process.wait(120) is None:
                raise SystemExit(f"{name} does not end after {kind.name}.")
            found[kind.name] += 1
        else:
            found["ended before the signal"] += 1
        if not target.exists():
            found["nothing left"] += 1
        elif is_whole(target):
            found["a whole file left"] += 1
        # Then to the end, in the folder as it was left.
        if Child(arguments, place / f"{name}.log").wait(600) != 0:
            found["could not be finished"] += 1
            continue
        found["equal to the undisturbed run" if digest(target) == wanted else "different"] += 1
        left = [path for path in folder.rglob(".*") if path.suffix in (".tmp", ".part")]
        found["temporary files left"] += len(left)
        shutil.rmtree(folder)
    return {"seconds undisturbed": round(whole_run, 1), **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=50, help="signals for each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("restore", "convert", "distill"))
    args = parser.parse_args()
    torch.set_num_threads(1)  # a process that forks must not have threads
    names = (args.only,) if args.only else ("restore", "convert", "distill")
    result: dict[str, object] = {"seed": args.seed, "count": args.count}
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            result[name] = campaign(name, args.count, args.seed, Path(place))
            print(f"{name}: {result[name]}", flush=True)
    print(json.dumps({**result, "torch": torch.__version__, "system": platform.system()}))


if __name__ == "__main__":
    main()
