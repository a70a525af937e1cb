"""The published package: metadata, version, files, help pages."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import varestorer_core

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings tomli
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lines(name):
    """Return the lines of a file that are neither empty nor comments."""
    stripped = (line.strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def node_ids():
    """Return the literal node ids of all schemas; the registry finds nodes by such a scan, too."""
    ids = []
    for path in sorted((ROOT / "nodes").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "node_id":
                assert isinstance(node.value, ast.Constant), (
                    f"{path.name}: node_id is not a literal"
                )
                ids.append(node.value.value)
    return ids


def repository_files():
    """Return the files that belong to the repository: tracked ones, and new ones not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    paths = [ROOT / name for name in listing.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_nothing_to_install():
    # The manager reads requirements.txt, the registry pyproject.toml: they must say the same.
    assert PROJECT["project"]["dependencies"] == lines("requirements.txt") == []
    assert "dependencies" not in PROJECT["project"].get("dynamic", [])


def test_only_the_core_becomes_a_package():
    assert PROJECT["tool"]["setuptools"]["packages"]["find"] == {"include": ["varestorer_core*"]}


def test_nodes_is_no_top_level_package_after_installation(tmp_path):
    try:
        importlib.metadata.distribution("varestorer")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed: pip install -e .")
    code = (
        "from importlib.util import find_spec as f; assert f('varestorer_core') and not f('nodes')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_command_exists():
    assert list(PROJECT["project"]["scripts"]) == ["varestorer"]
    module, function = PROJECT["project"]["scripts"]["varestorer"].split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_version_is_the_same_everywhere():
    version = PROJECT["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert varestorer_core.__version__ == version
    headings = re.findall(
        r"^## (\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert version in [number for number, _ in headings]


def test_registry_metadata():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,99}", project["name"])
    assert "comfyui" not in project["name"]
    assert project["description"]
    assert project["requires-python"] == ">=3.10"
    assert (ROOT / project["license"]["file"]).is_file()
    assert project["urls"]["Repository"].startswith("https://")
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert comfy["requires-comfyui"] == ">=0.8.0"
    # The help pages are found by folder name (WEB_DIRECTORY), which `web` would replace.
    assert "web" not in comfy


def test_tests_and_benchmarks_are_not_shipped():
    ignored = {line.strip("/") for line in lines(".comfyignore")}
    assert {"tests", "benchmarks", ".ci"} <= ignored
    assert not {"locales", "nodes", "varestorer_core", "web", "workflows"} & ignored


def test_top_level_is_what_it_is_meant_to_be():
    names = {path.relative_to(ROOT).parts[0] for path in repository_files()}
    assert {"__init__.py", "nodes", "varestorer_core", "workflows", "tests"} <= names
    allowed_folders = {
        ".ci",
        ".github",
        "benchmarks",
        "docs",
        "locales",
        "nodes",
        "tests",
        "varestorer_core",
        "web",
        "workflows",
    }
    assert {name for name in names if (ROOT / name).is_dir()} <= allowed_folders
    assert {name for name in names if name.endswith(".py")} == {"__init__.py"}


def test_every_node_has_a_help_page():
    ids = node_ids()
    assert ids
    assert len(ids) == len(set(ids))
    assert all(name.startswith("VARestorer") for name in ids)
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages == set(ids)


def test_ci_runs_the_commands_of_the_readme():
    # .ci/run finds the lines in the README by their beginning.
    commands = [
        line
        for block in re.findall(
            r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S
        )
        for line in block.splitlines()
        if line.startswith(("python3 -m venv .venv", ".venv/bin/pytest"))
    ]
    setup, quick, rest = commands
    assert setup.endswith("varestorer demo -o demo")
    assert quick == ".venv/bin/pytest"
    assert rest.startswith(f"{quick} -m ")
    # Together the two run everything: what one leaves out, the other asks for.
    left_out = re.findall(r"not (\w+)", PROJECT["tool"]["pytest"]["ini_options"]["addopts"])
    assert rest == f'{quick} -m "{" or ".join(left_out)}"'


def test_bundled_files_stay_small():
    total = sum(path.stat().st_size for path in (ROOT / "varestorer_core" / "assets").iterdir())
    assert total < 24_000_000


def test_links_between_documents_lead_somewhere():
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in repository_files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not broken


def test_no_machine_paths():
    # In two pieces, so that the search does not find this file.
    machine_path = re.compile(rb"/" + rb"(work|tmp|root|farm|home/[a-z]+)/")
    found = []
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" not in content[:8192] and (match := machine_path.search(content)):
            found.append(f"{path.relative_to(ROOT)}: {match.group().decode()}")
    assert not found
