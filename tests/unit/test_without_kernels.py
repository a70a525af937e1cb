"""The CPU layer can be deleted: all tests but its own pass in a copy without it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUICK = (
    "test_layering.py::test_the_cpu_kernels_have_one_importer",
    "test_layering.py::test_models_import_only_torch_configuration_and_each_other",
    "test_transformer.py",
)


def test_nothing_needs_the_cpu_kernels(tmp_path):
    leave = shutil.ignore_patterns("cpu", "__pycache__")
    for part in ("varestorer_core", "tests/unit", "nodes"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=leave)
    for name in ("pyproject.toml", "__init__.py"):
        shutil.copy(ROOT / name, tmp_path)
    # Only the core is on the path: nodes/ would hide a host's module of that name.
    (tmp_path / "path").mkdir()
    shutil.copytree(tmp_path / "varestorer_core", tmp_path / "path" / "varestorer_core")
    code = (
        "import sys, pytest, varestorer_core.kernels as door\n"
        f"assert door.__file__.startswith({str(tmp_path)!r}), door.__file__\n"
        "assert door.kernel_choices() == {}\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "-q",
            "-p",
            "no:cacheprovider",
            *(f"tests/unit/{name}" for name in QUICK),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "path"), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
