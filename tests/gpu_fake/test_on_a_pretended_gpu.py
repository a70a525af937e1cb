"""Runs the walks of this folder in separate processes, whose PyTorch has a pretended GPU.

The library is built at test time against the installed PyTorch, in a temporary folder that later runs reuse.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
SLOW = ("walk_training.py",)
WALKS = [
    pytest.param(path.name, marks=pytest.mark.slow if path.name in SLOW else ())
    for path in sorted(HERE.glob("walk_*.py"))
]


@pytest.fixture(scope="session")
def library():
    """Return the built guard."""
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C++ compiler on Linux is needed to pretend a GPU; none was found")
    source = HERE / "guard.cpp"
    version = hashlib.sha256(source.read_bytes() + torch.__version__.encode()).hexdigest()[:12]
    built = Path(tempfile.gettempdir()) / f"varestorer-gpu-{os.getuid()}" / f"guard-{version}.so"
    if not built.exists():
        _build(compiler, source, built)
    return built


def _build(compiler, source, built):
    built.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(torch.__path__[0])
    includes = (folder / "include", folder / "include/torch/csrc/api/include")
    partial = built.with_suffix(f".{os.getpid()}")
    command = [compiler, "-shared", "-fPIC", "-std=c++20", str(source), "-o", str(partial)]
    command += [f"-I{include}" for include in includes]
    command += [f"-L{folder / 'lib'}", "-lc10", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no GPU can be pretended with this PyTorch and compiler: {done.stderr[-500:]}")
    partial.replace(built)


@pytest.mark.parametrize("walk", WALKS)
def test_walk(library, walk):
    arguments = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--confcutdir=tests"]
    done = subprocess.run(
        [sys.executable, HERE / "inside.py", library, *arguments, HERE / walk],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
