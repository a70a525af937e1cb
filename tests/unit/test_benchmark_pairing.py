"""Pairing of results with references."""

import pytest

from varestorer_core.benchmark.pairing import key_of, pair_folders
from varestorer_core.errors import ImageError


def make(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("0801", "0801"),
        ("0801_x4_out", "0801"),
        ("0801x4_out", None),
        ("0801x4", "0801"),
        ("0801x4d", "0801"),
        ("0801x4q", None),
        ("0801-ours", "0801"),
        ("0801.ours", "0801"),
        ("0801_b", "0801_b"),
        ("0801_b_out", "0801_b"),
        ("08011", None),
        ("0801_LR4", "0801"),
        ("0801_lq", "0801"),
        ("other", None),
    ],
)
def test_names_and_their_suffixes(stem, key):
    assert key_of(stem, ["0801", "0801_b"]) == key


def test_folders_are_paired_and_every_other_file_is_named(tmp_path):
    reference = make(tmp_path / "HQ", "a_HR.png", "b_HR.png", "a_LR4.png", "notes.txt")
    ours = make(tmp_path / "ours", "a_out.png", "c.png", ".hidden.png")
    lq = make(tmp_path / "LQ", "a_LR4.png", "b_LR4.png")
    pairing = pair_folders(reference, {"ours": ours}, lq)
    assert list(pairing.references) == ["a", "b"]
    assert {key: path.name for key, path in pairing.methods["ours"].items()} == {"a": "a_out.png"}
    assert set(pairing.lq) == {"a", "b"}
    assert pairing.common == ["a"]
    sentences = "\n".join(pairing.left_out)
    for part in ("a_LR4.png: a low-quality", "c.png: no reference", "ours: no result for b_HR.png"):
        assert part in sentences
    assert len(pairing.left_out) == 3


def test_what_cannot_be_paired_is_refused(tmp_path):
    reference = make(tmp_path / "HQ", "a.png")
    with pytest.raises(ImageError, match="two results"):
        pair_folders(reference, {"m": make(tmp_path / "m", "a_1.png", "a_2.png")})
    with pytest.raises(ImageError, match="has the name of a reference"):
        pair_folders(reference, {"n": make(tmp_path / "n", "x.png")})
    with pytest.raises(ImageError, match="is used as"):
        pair_folders(reference, {"same": reference})
    with pytest.raises(ImageError, match="not a folder"):
        pair_folders(reference, {"absent": tmp_path / "absent"})
    with pytest.raises(ImageError, match="same name"):
        pair_folders(make(tmp_path / "twice", "a.png", "a_HR.png"), {"n": tmp_path / "n"})
    with pytest.raises(ImageError, match="low-quality pictures by its name"):
        pair_folders(make(tmp_path / "test_LR", "a.png"), {"n": tmp_path / "n"})


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("DIV2K_valid_LR_bicubic", True),
        ("DIV2K_valid_LR_bicubic/X4", True),
        ("test-LQx4", True),
        ("LR", True),
        ("DIV2K_valid_HR", False),
        ("HR_of_LR", False),
        ("LRS", False),
    ],
)
def test_folders_of_low_quality_pictures_are_no_references(tmp_path, name, refused):
    reference = make(tmp_path / name, "0801.png")
    methods = {"ours": make(tmp_path / "ours", "0801.png")}
    if refused:
        with pytest.raises(ImageError, match="low-quality pictures by its name"):
            pair_folders(reference, methods)
    else:
        assert pair_folders(reference, methods).common == ["0801"]
