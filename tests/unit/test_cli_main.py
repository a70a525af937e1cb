"""The entry point: help without torch, exit codes, errors in one line."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

import varestorer_core
from varestorer_core.assets import asset_path
from varestorer_core.cli import UsageError, degrade, demo, evaluate, main, restore
from varestorer_core.errors import CheckpointError


def run_with(monkeypatch, error, *arguments):
    """Run `varestorer demo` with a handler that raises."""

    def fail(_args):
        raise error

    monkeypatch.setattr("varestorer_core.cli.demo.run", fail)
    return main.main([*arguments, "demo"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([name, "--help"] for name in ("restore", "demo", "degrade", "evaluate")),
        ["--version"],
    ],
)
def test_help_imports_no_torch(arguments):
    code = (
        "import sys\n"
        "from varestorer_core.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'transformers', 'spandrel'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "varestorer" in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"varestorer {varestorer_core.__version__}\n"


def test_every_command_has_help(capsys):
    parser = main.build_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = capsys.readouterr().out
    for command in ("demo", "restore", "inspect", "convert", "degrade", "evaluate", "distill"):
        assert f"    {command} " in text


@pytest.mark.parametrize(
    "arguments", [[], ["unknown"], ["restore"], ["restore", "a.png", "-o", "b.png", "--rec"]]
)
def test_wrong_usage_is_one_line_and_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main.main(arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    command = "varestorer restore" if arguments[:1] == ["restore"] else "varestorer"
    assert line.startswith(f"{command}: error: ")
    assert line.endswith(f". Options: {command} --help")


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (["degrade", "a.png", "--prest", "x4"], "--prest"),
        (["restore", "a.png", "--ouput=b.png"], "--ouput"),
        (["restore", "-o", "b.png", "--", "--c.png"], None),
    ],
)
def test_a_misspelt_option_is_named_though_a_required_one_is_missing(arguments, unknown, capsys):
    if unknown is None:
        assert main.main(arguments) == 2
        assert "--c.png: no such file or folder" in capsys.readouterr().err
    else:
        with pytest.raises(SystemExit):
            main.main(arguments)
        assert f"unrecognized arguments: {unknown}. Options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CheckpointError("x.pth is a web page."), 1, "varestorer: error: x.pth is a web page.\n"),
        (UsageError("no such file."), 2, "varestorer: error: no such file.\n"),
        (KeyboardInterrupt(), 130, "\nvarestorer: interrupted\n"),
    ],
)
def test_errors_are_one_line_and_have_their_exit_code(monkeypatch, capsys, error, code, words):
    assert run_with(monkeypatch, error) == code
    captured = capsys.readouterr()
    assert captured.err == words
    assert captured.out == ""


def test_debug_lets_the_error_through(monkeypatch):
    with pytest.raises(CheckpointError):
        run_with(monkeypatch, CheckpointError("x"), "--debug")


def test_errors_that_are_bugs_are_not_hidden(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_with(monkeypatch, ZeroDivisionError())


def test_every_option_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
    for module in (degrade, demo, evaluate, restore):
        command = module.__name__.rpartition(".")[2]
        subparsers = argparse.ArgumentParser().add_subparsers()
        module.add_parser(subparsers)
        for action in subparsers.choices[command]._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or f"`{option}" in page or f"[{option}" in page


@pytest.mark.parametrize("arguments", [["--debug", "demo"], ["demo", "--debug"], ["demo"]])
def test_debug_may_stand_before_or_after_the_command(arguments):
    assert main.build_parser().parse_args(arguments).debug == ("--debug" in arguments)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory."), None])
def test_memory_that_runs_out_while_loading_is_a_sentence(tmp_path, monkeypatch, capsys, error):
    def load(*args, **kwargs):
        raise error or RuntimeError("another reason")

    monkeypatch.setattr("varestorer_core.loading.load_restorer", load)
    picture = asset_path("demo_lq.png")
    arguments = ["restore", str(picture), "-o", str(tmp_path / "out.png"), "--device", "cpu"]
    if error is None:
        with pytest.raises(RuntimeError, match="another reason"):
            main.main(arguments)
        return
    assert main.main(arguments) == 1
    assert "There is not enough memory on the device" in capsys.readouterr().err
