"""`restore --cluster` on a real local Ray: the bytes of a run without it, killed actors, a killed command."""

import importlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from varestorer_core.cli.main import main

ROOT = Path(__file__).parents[2]


def has_ray():
    try:
        importlib.import_module("ray.data")
        importlib.import_module("psutil")
    except ImportError:
        return False
    return True


needs_ray = pytest.mark.skipif(not has_ray(), reason="needs Ray: pip install -e '.[cluster]'")


def test_without_ray_one_sentence_says_what_to_install(tmp_path, monkeypatch, capsys):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["restore", str(tmp_path), "-o", str(tmp_path / "out"), "--cluster", "auto"]
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "pip install 'varestorer[cluster]'" in said[0]


def test_ray_is_imported_by_nothing_else():
    code = (
        "import sys; from varestorer_core.cli.main import build_parser; build_parser(); "
        "print([m for m in sys.modules if m.split('.')[0] in ('ray', 'pyarrow')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("varestorer_core", "nodes")
        for path in (ROOT / folder).rglob("*.py")
        if 'import_module("ray' in path.read_text() or "import ray" in path.read_text()
    ]
    assert users == ["varestorer_core/cli/cluster.py"]


@needs_ray
@pytest.mark.slow
def test_on_a_real_ray_with_killed_actors_and_a_killed_command(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    cluster = importlib.import_module("cluster")
    continued = importlib.import_module("continued")
    source, plain, torn = (tmp_path / name for name in ("in", "plain", "torn"))
    continued.fill(source, 50, 0)
    cluster.Run(source, plain).wait()
    wanted = continued.results(plain)
    assert len(wanted) == 49
    options = ("--cluster", "auto", "--workers", "2")
    run = cluster.Run(source, torn, *options)
    assert run.kill_actors(1, random.Random(0), 1.0) == 1
    run.child.kill()
    run.wait()
    run = cluster.Run(source, torn, *options)
    run.kill_actors(1, random.Random(1), 1.0)
    printed = run.wait()
    assert "by 2 actors" in printed, printed
    assert continued.results(torn) == wanted
    recorded = cluster.recorded(torn)
    assert len(recorded) == 49
    assert set(recorded.values()) == {1}


@needs_ray
@pytest.mark.slow
def test_a_set_is_degraded_as_without_a_cluster_and_continued(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    continued = importlib.import_module("continued")
    source, plain, spread = (tmp_path / name for name in ("in", "plain", "spread"))
    continued.fill(source, 30, 0)
    options = ["--preset", "mild", "--recursive", "--seed", "5", "--skip-existing"]
    assert main(["degrade", str(source), "-o", str(plain), *options]) == 0
    wanted = continued.results(plain)
    assert len(wanted) == 30
    cluster = ["--cluster", "auto", "--workers", "2"]
    command = ["degrade", str(source), "-o", str(spread), *options, *cluster]
    assert main(command) == 0
    assert "30 degraded by 2 actors" in capsys.readouterr().out
    assert continued.results(spread) == wanted
    records = [json.loads(line) for line in (spread / continued.MANIFEST).read_text().splitlines()]
    # The seed and the number decide a picture, so both are recorded.
    assert sorted(record["settings"]["number"] for record in records) == list(range(30))
    (spread / "part0" / "picture00000.png").unlink()
    assert main(command) == 0
    assert "1 degraded, 29 already done" in capsys.readouterr().out
    assert continued.results(spread) == wanted
