"""Options of `restore` and `degrade` that have no effect, and manifests that cannot be written, end before any work."""

import errno
import tempfile

import pytest
from restore_command import picture

from varestorer_core.cli.main import main

pytestmark = pytest.mark.usefixtures("networks")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-o {out}/b.png --suffix _x", "--suffix _x has an effect only on results in a folder"),
        ("-o {out}/b.png --quality 10", "--quality has an effect only on JPEG and WebP results"),
        ("-o {out} --quality 10", "--quality has an effect only on JPEG and WebP results"),
        ("-o {out} --format tif --quality 10", "TIFF"),
        ("-o {out} --workers 2", "--workers has an effect only together with --cluster"),
        ("-o {out} --threads 1", "--threads has an effect only together with --cluster"),
        ("-o {out} --adapter-strength 1", "--adapter-strength has an effect only on an --adapter"),
        (
            "-o {out} --adapter {source}:0.5 --adapter-strength 1",
            "--adapter-strength has an effect only on an --adapter without",
        ),
        ("-o {out} --devices cpu,cpu --device cpu", "--devices replaces --device cpu"),
        ("-o {out} --cluster auto --devices 0,1", "--devices selects devices of this machine"),
        ("-o {out} --cluster auto --device cuda:1", "expected auto, cpu or cuda"),
        ("-o {out} --cluster auto --device mps", "expected auto, cpu or cuda"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, networks, capsys, options, said):
    source, out = picture(tmp_path / "a.png"), tmp_path / "out"
    words = options.format(out=out, source=source).split()
    assert main(["restore", source, *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert networks.loaded == []
    assert not out.exists()


@pytest.mark.parametrize("option", ["--workers", "--threads"])
def test_degrade_refuses_them_too(tmp_path, capsys, option):
    source, out = picture(tmp_path / "a.png"), tmp_path / "out"
    assert main(["degrade", source, "-o", str(out), "--preset", "mild", option, "2"]) == 2
    assert "has an effect only together with --cluster" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["b.jpg", "b.webp"])
def test_quality_of_a_file_that_has_one(tmp_path, name):
    source = picture(tmp_path / "a.png")
    assert main(["restore", source, "-o", str(tmp_path / name), "--quality", "10"]) == 0


def test_manifests_that_cannot_be_written(tmp_path, monkeypatch, networks, capsys):
    source, out, closed = picture(tmp_path / "a.png"), tmp_path / "out", tmp_path / "closed"
    closed.mkdir()
    usual = tempfile.TemporaryFile

    def refused(*args, **options):
        if options["dir"] == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return usual(*args, **options)

    # Root, who may run the tests, may write anywhere.
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    for place, said in (
        (tmp_path / "none" / "m.jsonl", "the folder"),
        (tmp_path, "is a folder"),
        (closed / "m.jsonl", "Permission denied"),
        ("s3://bucket/m.jsonl", "expected a local file"),
    ):
        assert main(["restore", source, "-o", str(out), "--manifest", str(place)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
    assert networks.loaded == []
    (out / ".varestorer-manifest.jsonl").mkdir()
    assert main(["restore", source, "-o", str(out), "--skip-existing"]) == 2
    assert "is a folder" in capsys.readouterr().err
