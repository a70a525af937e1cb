"""The CPU kernels can be deleted: in a copy of the project without them, all tests but their own pass.

What remains is what a GPU runs, and the parity tests run every line of it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = (
    ("varestorer_core", "cpu"),
    ("tests", "unit", "cpu"),
    Path(__file__).relative_to(ROOT).parts,
)

QUICK = (
    "tests/unit/test_layering.py::test_the_cpu_kernels_have_one_importer",
    "tests/unit/test_layering.py::test_models_import_only_torch_configuration_and_each_other",
    "tests/unit/test_transformer.py",
)
OF_THE_NETWORKS = ("test_transformer.py", "test_bsq.py", "test_fidelity.py")
"""Unit tests that, with the parity tests, run every line of the networks."""

NETWORKS = (
    *("transformer.py", "block.py", "attention.py", "autoencoder.py", "bsq.py", "rope.py"),
    *("text_*.py", "sampling.py", "adaptive_norm.py", "masks.py"),
)
COVERAGE = """
[run]
source = varestorer_core.models
[report]
show_missing = true
# Refusals of wrong input, which other unit tests run, and what only type checkers read.
exclude_also =
    raise
    if .*(!=|not in|is None|ndim|elif length).*:$
    \\.\\.\\.$
"""

RUN = """
import pathlib, sys
import pytest, varestorer_core.kernels as door
here = pathlib.Path(__file__).resolve().parent
assert pathlib.Path(door.__file__).resolve().parents[1] == here, door.__file__
assert door.kernel_choices() == {}
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""
"""Runs pytest after a check of what it tests."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a folder with a copy of the project without the CPU kernels and their tests."""
    folder = tmp_path_factory.mktemp("without_kernels")
    copy = folder / "copy"
    for file in files():
        if not any(file.parts[: len(parts)] == parts for parts in LEFT_OUT):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy / file)
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)  # some tests ask it for the files
    # Only the core is on the path: nodes/ would hide a host's module of that name.
    shutil.copytree(copy / "varestorer_core", folder / "path" / "varestorer_core")
    (folder / "path" / "run.py").write_text(RUN)
    (folder / "coverage.ini").write_text(COVERAGE)
    shared = ROOT.parent / "shared"
    if shared.is_dir():  # all recordings, not only the part that is in the project
        (folder / "shared").symlink_to(shared, target_is_directory=True)
    return copy


def files():
    """Return the files that git would publish, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    listed = (Path(os.fsdecode(name)) for name in listing.split(b"\0") if name)
    return [file for file in listed if (ROOT / file).is_file()]  # not deleted


def run(copy, *arguments):
    """Run Python with arguments in the copy and return its output; fail if it fails."""
    # This may be a worker of pytest-xdist, which starts no workers.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(copy.parent / "path")
    environment["COVERAGE_FILE"] = str(copy.parent / "coverage")
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    return done.stdout


def test_nothing_needs_the_cpu_kernels(copy):
    assert " passed" in run(copy, "../path/run.py", *QUICK)


@pytest.mark.slow
def test_without_the_cpu_kernels_parity_runs_every_line_of_the_networks(copy):
    pytest.importorskip("coverage", reason="coverage is not installed")
    coverage = ("-m", "coverage")
    tests = ("tests/parity", *(f"tests/unit/{name}" for name in OF_THE_NETWORKS))
    # "CPU kernels" and "plain networks" are the same here.
    options = ("--rcfile=../coverage.ini", "../path/run.py", "-k", "not kernels")
    assert " passed" in run(copy, *coverage, "run", *options, *tests)
    only = ",".join(f"*/{name}" for name in NETWORKS)
    run(
        copy, *coverage, "report", "--rcfile=../coverage.ini", "--fail-under=100", "--include", only
    )


@pytest.mark.slow
def test_without_the_cpu_kernels_all_other_unit_tests_pass(copy):
    rest = (f"--ignore=tests/unit/{name}" for name in OF_THE_NETWORKS)
    assert " passed" in run(copy, "../path/run.py", *rest, "tests/unit")
