"""Batches from worker processes: the same pictures for any number of workers, also if one of them is killed."""

import dataclasses
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from varestorer_core.distill import loader as module
from varestorer_core.distill.batches import Draw, batch_generator, draw_batch, draw_of, to_float
from varestorer_core.distill.data import procedural_pictures
from varestorer_core.distill.decode import open_picture
from varestorer_core.distill.loader import Drawing, LoaderError, load_batches
from varestorer_core.distill.picture_folder import PictureFolder
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.run import run_stage
from varestorer_core.distill.sources import Squares
from varestorer_core.errors import ImageError

SQUARES = Squares(np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), np.uint8))
DRAWING = Drawing(SQUARES, (Draw(2, 8, ("x4", "mild"), clean=0.5),), seed=3)

needs_kill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


def same(a, b):
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        for x, y in zip(a, b, strict=True)
    )


def test_batches_do_not_depend_on_the_workers_nor_on_where_a_run_begins():
    plain = list(load_batches(DRAWING, range(6), 0))
    assert {k: (v.dtype, tuple(v.shape)) for k, v in plain[0].items()} == {
        "clean": (torch.uint8, (2, 3, 8, 8)),
        "lq": (torch.uint8, (2, 3, 8, 8)),
    }
    assert not same(plain[:1], plain[1:2])
    assert same(plain, list(load_batches(DRAWING, range(6), 2)))
    assert same(plain[4:], list(load_batches(DRAWING, range(4, 6), 1)))
    assert not same(plain, list(load_batches(dataclasses.replace(DRAWING, seed=4), range(6), 0)))


@needs_kill
@pytest.mark.parametrize("moment", range(4))
def test_killed_workers_lose_nothing(monkeypatch, moment, caplog):
    pools = []
    plain_start = module._start
    monkeypatch.setattr(module, "_start", lambda *a: pools.append(plain_start(*a)) or pools[-1])
    got = []
    for index, batch in enumerate(load_batches(DRAWING, range(8), 2)):
        got.append(batch)
        if index == moment:
            for pid in list(pools[-1]._processes):
                os.kill(pid, signal.SIGKILL)
    assert same(got, list(load_batches(DRAWING, range(8), 0)))
    assert len(pools) >= 2
    assert "starting it again" in caplog.text


class Fatal:
    """A source that ends the process that draws from it."""

    def draw(self, batch, crop, generator):
        os._exit(1)


def test_workers_that_keep_dying_are_an_error():
    drawing = dataclasses.replace(DRAWING, source=Fatal())
    with pytest.raises(LoaderError, match="use fewer --workers"):
        list(load_batches(drawing, range(2), 1))


class Broken:
    """A source without a usable picture."""

    def draw(self, batch, crop, generator):
        raise ImageError("no picture could be used.")


def test_an_error_of_the_source_arrives_as_it_is():
    drawing = dataclasses.replace(DRAWING, source=Broken())
    for workers in (0, 1):
        with pytest.raises(ImageError, match="no picture could be used"):
            list(load_batches(drawing, range(2), workers))


def test_no_worker_is_left_when_the_loop_ends_early(monkeypatch):
    pools = []
    plain_start = module._start
    monkeypatch.setattr(module, "_start", lambda *a: pools.append(plain_start(*a)) or pools[-1])
    batches = load_batches(DRAWING, range(100), 2)
    next(batches)
    processes = list(pools[0]._processes.values())
    batches.close()
    assert processes
    assert not any(process.is_alive() for process in processes)


@needs_kill
def test_a_run_with_workers_that_are_killed_trains_the_same_weights(
    tmp_path, micro_run, monkeypatch
):
    def weights(out):
        state = torch.load(out / "encoder" / "state.pt", weights_only=True)
        return state["modules"]["encoder"]

    steps = {"encoder": 7}
    plain = micro_run(tmp_path / "plain", steps=steps)
    cut = micro_run(tmp_path / "cut", steps=steps, workers=2)
    for settings in (plain, cut):
        run_stage("tokenizer", dataclasses.replace(settings, steps={"tokenizer": 1}, workers=0))
    run_stage("encoder", plain)
    pools = []
    plain_start = module._start
    monkeypatch.setattr(module, "_start", lambda *a: pools.append(plain_start(*a)) or pools[-1])

    def kill(what, done, total, loss):
        if what == "encoder" and done == 1:
            for pid in list(pools[-1]._processes):
                os.kill(pid, signal.SIGKILL)

    run_stage("encoder", dataclasses.replace(cut, stop_at=6), kill)
    run_stage("encoder", dataclasses.replace(cut, resume=True))
    assert len(pools) >= 3  # one a call, and one in the place of those killed
    wanted, got = weights(plain.out), weights(cut.out)
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


def test_draws_change_at_their_steps():
    draws = (Draw(8, 16), Draw(2, 32, from_step=3))
    assert [draw_of(draws, step).crop for step in (0, 2, 3, 9)] == [16, 16, 32, 32]
    drawing = Drawing(SQUARES, (Draw(3, 4), Draw(1, 8, from_step=1)), 0, accumulate=2)
    assert [len(drawing(number)["clean"]) for number in range(4)] == [3, 3, 1, 1]


def test_a_share_of_the_pictures_stays_clean():
    for share in (0.0, 1.0):
        batch = draw_batch(SQUARES, Draw(4, 8, ("x4",), share), batch_generator(0, 0))
        equal = [torch.equal(a, b) for a, b in zip(batch["clean"], batch["lq"], strict=True)]
        assert equal == [share == 1.0] * 4
    assert draw_batch(SQUARES, Draw(4, 8), batch_generator(0, 0)).keys() == {"clean"}


def test_pictures_become_float_between_minus_one_and_one():
    values = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    assert to_float({"clean": values})["clean"].tolist() == [[[[-1.0, 1.0]]]]


def test_a_memory_mapped_source_travels_as_its_file(tmp_path):
    source = Squares(procedural_pictures(tmp_path / "a.npy", 20, size=64))
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).pictures, source.pictures)


@pytest.fixture
def large(tmp_path):
    """Return a JPEG file of 400 x 240 pixels that is stored on its side."""
    picture = np.concatenate([generate_picture(0, n, size=240) for n in range(2)], axis=1)[:, :400]
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    Image.fromarray(picture).save(tmp_path / "large.jpg", quality=95, exif=exif)
    return tmp_path / "large.jpg"


@pytest.mark.parametrize(
    ("reduction", "size", "shrunk"),
    [(1.0, (240, 400), 1), (1.99, (240, 400), 1), (2.0, (120, 200), 2), (9.0, (30, 50), 8)],
)
def test_jpeg_files_are_decoded_no_larger_than_needed(large, reduction, size, shrunk):
    image, by = open_picture(large, reduction)
    assert (image.size, by, image.mode) == (size, shrunk, "RGB")
    whole, _ = open_picture(large)
    expected = np.asarray(whole.resize(size, Image.Resampling.BOX), np.float32)
    assert np.abs(np.asarray(image, np.float32) - expected).mean() < 3


def test_the_same_square_is_cut_whatever_the_scale_of_decoding(large, monkeypatch):
    folder = PictureFolder(large.parent, 24)
    fast = folder.draw(6, 24, torch.Generator().manual_seed(0)).astype(np.float32)
    monkeypatch.setattr(
        "varestorer_core.distill.picture_folder.open_picture", lambda path, _: open_picture(path)
    )
    slow = folder.draw(6, 24, torch.Generator().manual_seed(0)).astype(np.float32)
    assert np.abs(fast - slow).mean() < 4
    assert np.abs(fast[0] - slow[1]).mean() > 15  # what other squares differ by


def test_files_that_are_not_jpeg_are_not_shrunk(tmp_path):
    Image.fromarray(generate_picture(0, 0, size=64)).save(tmp_path / "a.png")
    image, by = open_picture(tmp_path / "a.png", 4.0)
    assert (image.size, by) == ((64, 64), 1)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(ImageError):
        open_picture(tmp_path / "a.jpg", 4.0)
