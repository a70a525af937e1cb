"""Folders without permission: every command reports them in one sentence."""

import errno
from pathlib import Path

import pytest

from varestorer_core.cli.main import main

COMMANDS = {
    "restore": ["restore", "{closed}/a.png", "-o", "{out}/b.png"],
    "restore, output": ["restore", "{picture}", "-o", "{closed}/b.png"],
    "inspect": ["inspect", "{closed}/a.pth"],
    "convert": ["convert", "{closed}/a.pth", "-o", "{out}/b.safetensors"],
    "degrade": ["degrade", "{closed}/a.png", "--preset", "mild", "-o", "{out}/b.png"],
    "evaluate": ["evaluate", "{closed}/folder", "-o", "{out}/e"],
    "demo": ["demo", "-o", "{closed}/demo"],
    "benchmark": ["benchmark", "--reference", "{closed}/a", "{closed}/b", "-o", "{out}/r"],
    "profile": ["profile", "--model", "{closed}/a.pth", "--vae", "{closed}/b.pth"],
    "distill": ["distill", "tokenizer", "--out", "{closed}/run", "--steps", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_parent_folder_without_permission_is_one_sentence(tmp_path, monkeypatch, capsys, command):
    closed = tmp_path / "closed"
    closed.mkdir()
    picture = Path(__file__).parents[2] / "varestorer_core" / "assets" / "demo_lq.png"

    def closing(ask):
        def answer(path, *args, **options):
            # The system's answer to all users but root, who may run the tests.
            if closed in path.parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return ask(path, *args, **options)

        return answer

    for name in ("stat", "mkdir"):
        monkeypatch.setattr(Path, name, closing(getattr(Path, name)))
    words = {"closed": closed, "out": tmp_path, "picture": picture}
    code = main([word.format(**words) for word in COMMANDS[command]])
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert "ermission denied" in said
    assert "Traceback" not in said
