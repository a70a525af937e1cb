"""Input pictures and the paths of their results."""

import errno
import unicodedata

import pytest
from PIL import Image

from varestorer_core.cli import UsageError
from varestorer_core.cli.finding import Skipped
from varestorer_core.cli.jobs import check_writable, plan_jobs


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    for name in ("a.png", "a.JPG", "b.webp", "notes.txt", "._b.webp", "deeper/c.png"):
        (folder / name).touch()
    return folder


def names(jobs):
    return {job.source.name: job.target.name for job in jobs}


def test_folder_is_not_recursive_and_other_files_are_counted(photos, tmp_path):
    jobs, skipped = plan_jobs([str(photos)], str(tmp_path / "out"))
    assert names(jobs) == {"a.JPG": "a.png", "a.png": "a_png.png", "b.webp": "b.png"}
    assert skipped == Skipped(files=2)
    assert {job.target.parent for job in jobs} == {tmp_path / "out"}
    assert {job.compare for job in jobs} == {None}


def test_names_never_collide(tmp_path):
    inputs = []
    for folder, name in (("x", "a.png"), ("y", "A.png"), ("z", "a.jpg"), ("x", "a_png.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
        inputs.append(str(tmp_path / folder / name))
    jobs, _ = plan_jobs([*inputs, *inputs], str(tmp_path / "out"), compare=True)
    assert len(jobs) == 4
    files = [path.name.casefold() for job in jobs for path in (job.target, job.compare)]
    assert len(set(files)) == 8


def test_comparison_does_not_replace_a_result(tmp_path):
    for name in ("a.png", "a_compare.png"):
        (tmp_path / name).touch()
    inputs = [str(tmp_path / "a.png"), str(tmp_path / "a_compare.png")]
    jobs, _ = plan_jobs(inputs, str(tmp_path / "out"), compare=True)
    assert [job.target.name for job in jobs] == ["a.png", "a_compare_png.png"]
    assert jobs[0].compare == tmp_path / "out" / "a_compare.png"


def test_one_picture_may_name_its_file(photos):
    jobs, _ = plan_jobs([str(photos / "a.png")], str(photos / "new.jpg"), compare=True)
    assert jobs[0].target == photos / "new.jpg"
    assert jobs[0].compare == photos / "new_compare.png"


def test_a_folder_that_looks_like_a_file_is_a_folder(photos, tmp_path):
    (tmp_path / "out.png").mkdir()
    jobs, _ = plan_jobs([str(photos / "a.png")], str(tmp_path / "out.png"))
    assert jobs[0].target == tmp_path / "out.png" / "a.png"


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        (["missing.png"], "out", "missing.png: no such file"),
        (["photos/deeper"], "photos/deeper", "is the folder of c.png itself"),
        (["photos/a.png"], "photos", "is the folder of a.png itself"),
        (["photos/a.png"], "photos/a.png", "would be overwritten"),
        (["photos"], "out.png", "3 pictures cannot all be written"),
        (["photos/a.png"], "out.gif", ".gif files cannot be written"),
        (["photos/a.png"], "photos/notes.txt", ".txt files cannot be written"),
        (["empty"], "out", "no pictures in"),
        (["photos/a.png"], "out.pdf", ".pdf files cannot be written"),
        *[
            (["photos/a.png"], f"out{ending}", f"{ending} files cannot be written")
            for ending in (".jxl", ".hif", ".jpx", ".apng", ".pam", ".jxr", ".crw")
        ],
        ([""], "out", "is empty"),
        (["photos/a.png"], "", "is empty"),
    ],
)
def test_what_cannot_work_is_refused(photos, tmp_path, monkeypatch, inputs, output, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        plan_jobs(inputs, output)


def test_comparison_does_not_replace_an_input(tmp_path):
    (tmp_path / "a_compare.png").touch()
    with pytest.raises(UsageError, match="would be overwritten"):
        plan_jobs([str(tmp_path / "a_compare.png")], str(tmp_path / "a.png"), compare=True)


def test_output_folder_is_made_and_probed(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_output_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        check_writable(tmp_path)
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written to"):
        check_writable(tmp_path / "file" / "folder")


def test_subfolders_appear_again(photos, tmp_path):
    (photos / "deeper" / "loop").symlink_to(photos)
    (photos / "deeper" / "page.pdf").touch()
    (photos / "out").mkdir()
    (photos / "out" / "earlier.png").touch()
    jobs, skipped = plan_jobs([str(photos)], str(photos / "out"), recursive=True)
    targets = {str(job.target.relative_to(photos / "out")) for job in jobs}
    assert targets == {"a.png", "a_png.png", "b.png", "deeper/c.png"}
    assert skipped == Skipped(files=3)


def test_files_that_look_like_pictures_are_named(photos, tmp_path, capsys):
    (photos / "logo.svg").touch()
    (photos / "page.jxr").touch()
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    Image.new("RGB", (4, 4)).save(photos / "scan.2024", "PNG")
    _, skipped = plan_jobs([str(photos)], str(tmp_path / "out"))
    told = capsys.readouterr().err
    assert "logo.svg is vector graphics, which is not supported" in told
    assert "page.jxr is JPEG XR, which is not supported" in told
    assert "gone.png is a broken link" in told
    assert "scan.2024 is a PNG file, but .2024 is not an extension of pictures" in told
    assert skipped == Skipped(files=6, pictures=3)


def test_names_that_say_nothing_and_rarer_extensions_are_pictures(photos, tmp_path):
    Image.new("RGB", (4, 4)).save(photos / "IMG0001", "JPEG")
    (photos / "README").write_text("not a picture")
    for name in ("camera.HIF", "old.crw", "moving.apng", "map.jpx"):
        (photos / name).touch()
    jobs, skipped = plan_jobs([str(photos)], str(tmp_path / "out"))
    found = names(jobs)
    assert found["IMG0001"] == "IMG0001.png"
    assert {"camera.HIF", "old.crw", "moving.apng", "map.jpx"} < set(found)
    assert skipped == Skipped(files=3)


def test_two_encodings_of_one_accent_do_not_collide(tmp_path):
    names = ("caf\u00e9.png", "cafe\u0301.jpg")
    for name in names:
        (tmp_path / name).touch()
    jobs, _ = plan_jobs([str(tmp_path)], str(tmp_path / "out"))
    folded = {unicodedata.normalize("NFC", job.target.name) for job in jobs}
    assert len(folded) == 2


def test_names_that_would_be_too_long_are_refused_before_any_work(tmp_path):
    long = tmp_path / ("a" * 250 + ".png")
    long.touch()
    with pytest.raises(UsageError, match="longer than 255 bytes"):
        plan_jobs([str(long)], str(tmp_path / "out"), compare=True)
