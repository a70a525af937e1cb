"""Squares of photographs, mixed with procedural ones."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.run import RunSettings
from varestorer_core.distill.run.pictures import (
    held_out_files,
    training_source,
    validation_pictures,
)
from varestorer_core.distill.sources import Squares
from varestorer_core.distill.squares import mixed_squares
from varestorer_core.distill.train_teacher import TINY_TRANSFORMER
from varestorer_core.errors import ImageError

SIZE = 32


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs" / "inner"
    folder.mkdir(parents=True)
    for name, value in (("a", 40), ("b", 200)):
        Image.new("RGB", (96, 96), (value,) * 3).save(folder / f"{name}.png")
    return folder.parent


def squares(folder, photographs, **changes):
    wanted = {"each": 3, "procedural": 2, "size": SIZE, "seed": 5, **changes}
    return mixed_squares(folder / "squares.npy", photographs, **wanted)


def test_photographs_come_first_then_procedural_squares(tmp_path, photographs):
    made = squares(tmp_path, photographs)
    assert made.shape == (8, SIZE, SIZE, 3)
    assert [int(square[0, 0, 0]) for square in made[:6]] == [40, 40, 40, 200, 200, 200]
    assert (made[6] == generate_picture(5, 0, size=SIZE)).all()
    assert (made[7] == generate_picture(5, 1, size=SIZE)).all()


def test_kept_squares_are_used_again(tmp_path, photographs, monkeypatch):
    first = np.array(squares(tmp_path, photographs))
    monkeypatch.setattr("varestorer_core.distill.squares.folder_pictures", None)
    assert (squares(tmp_path, photographs) == first).all()


def test_squares_are_made_anew_for_other_photographs_and_numbers(tmp_path, photographs):
    squares(tmp_path, photographs)
    assert len(squares(tmp_path, photographs, procedural=0)) == 6
    Image.new("RGB", (96, 96), (90,) * 3).save(photographs / "c.png")
    assert len(squares(tmp_path, photographs, procedural=0)) == 9


def test_an_interrupted_run_leaves_nothing_that_is_taken_for_squares(
    tmp_path, photographs, monkeypatch
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("varestorer_core.distill.squares.generate_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            squares(tmp_path, photographs)
    assert squares(tmp_path, photographs)[6:].any()


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="none among 0 picture files"):
        squares(tmp_path, tmp_path)


def test_a_run_trains_on_the_mixed_squares(tmp_path, photographs):
    settings = RunSettings(
        out=tmp_path / "run",
        data=photographs,
        validation=photographs,
        squares=1,
        pictures=1,
        picture_size=80,
        transformer=replace(TINY_TRANSFORMER, pixel_class="0.06M"),
    )
    source = training_source(settings)
    assert isinstance(source, Squares)
    assert len(source.pictures) == 3


def test_pictures_that_are_held_out_are_not_trained_on(tmp_path, photographs):
    settings = RunSettings(
        out=tmp_path / "run",
        data=photographs,
        squares=1,
        pictures=1,
        picture_size=80,
        transformer=replace(TINY_TRANSFORMER, pixel_class="0.06M"),
    )
    (held_out,) = held_out_files(settings)
    shown = {int(square[0, 0, 0]) for square in validation_pictures(settings)}
    assert shown == {40 if held_out.stem == "a" else 200}
    trained = training_source(settings).pictures[:-1]
    assert {int(square[0, 0, 0]) for square in trained} == {40, 200} - shown
    whole = training_source(replace(settings, squares=None))
    assert whole.files
    assert held_out not in whole.files
    held_out.unlink()
    with pytest.raises(ImageError, match="needs another one for validation"):
        validation_pictures(settings)
