"""`restore --cluster` on a real local Ray: the bytes of a run without it, killed actors, a killed command."""

import importlib
import json
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from varestorer_core.cli.cluster import ending, exit_on_sigterm
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
    assert "pip install 'ray[data]'" in said[0]


def test_a_ray_that_does_not_start_is_one_sentence(tmp_path, monkeypatch, capsys):
    """Ray raises `Exception` itself when its processes take longer than 30 s, as on a busy machine."""

    def init(address, **options):
        if address == "auto":
            raise ConnectionError("no cluster")
        raise Exception("The current node timed out during startup.")

    ray = types.ModuleType("ray")
    ray.init = init
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", types.ModuleType("ray.data"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "a.png").write_bytes(b"")
    command = ["restore", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]
    assert main([*command, "--cluster", "auto"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("varestorer: error: --cluster auto: Ray did not start on this machine")
    assert "timed out during startup" in said
    assert "Traceback" not in said


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
@pytest.mark.ray
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
    assert run.kill_actors(torn, [5]) == 1
    run.child.kill()
    run.wait()
    run = cluster.Run(source, torn, *options)
    assert run.kill_actors(torn, [25]) == 1
    printed = run.wait()
    assert "by 2 actors" in printed, printed
    assert continued.results(torn) == wanted
    recorded = cluster.recorded(torn)
    assert len(recorded) == 49
    assert set(recorded.values()) == {1}


@needs_ray
@pytest.mark.ray
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


@needs_ray
@pytest.mark.ray
@pytest.mark.slow
def test_a_damaged_model_is_one_sentence(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "vae.pth").write_text("no model")
    command = [sys.executable, "-m", "varestorer_core.cli", "restore", str(tmp_path / "a.png")]
    command += ["-o", str(tmp_path / "b.png"), "--vae", str(tmp_path / "vae.pth")]
    command += ["--cluster", "auto", "--workers", "1"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert child.returncode == 1
    bundled, error = child.stderr.splitlines()
    assert "bundled tiny model" in bundled
    assert error.startswith("varestorer: error: vae.pth is neither a safetensors file nor")


@needs_ray
@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_ends_a_run_quietly_and_it_is_continued(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for number in range(400):
        Image.new("RGB", (8, 8), (number // 2, 90, 30)).save(tmp_path / "in" / f"{number:03d}.png")
    command = [sys.executable, "-m", "varestorer_core.cli", "degrade", str(tmp_path / "in")]
    command += ["-o", str(tmp_path / "out"), "--preset", "mild", "--skip-existing"]
    command += ["--cluster", "auto", "--workers", "1"]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert "->" in child.stdout.readline()
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (143, "")
    again = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0
    assert " already done by 1 actor" in again.stdout
    assert len(list((tmp_path / "out").glob("*.png"))) == 400


def test_the_error_of_an_actor_is_its_own_sentence():
    trace = "ray::MapWorker.__init__()\n  File x\nvarestorer_core.errors.CheckpointError: a.pth is no model.\n"
    assert ending(RuntimeError(trace)) == "a.pth is no model."
    assert ending(RuntimeError("trace\nThe node died.\n")).startswith(
        "The cluster ended the run: The node died. Recorded pictures are done"
    )
    assert "ended the run: RuntimeError." in ending(RuntimeError())


def test_sigterm_ends_the_process_with_its_code():
    usual = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, exit_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is usual
