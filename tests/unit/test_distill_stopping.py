"""Early stops of training and its checkpoints: signals, limits, damage, kills, full disks."""

import dataclasses
import logging
import os
import signal
import time
from io import BufferedWriter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_training import SOURCE, Toy, linear, run

from varestorer_core import atomic
from varestorer_core.distill import state as state_module
from varestorer_core.distill.data import procedural_pictures
from varestorer_core.distill.ema import WeightAverage
from varestorer_core.distill.interruption import DeadlineError, Interrupted
from varestorer_core.distill.logs import CsvLog
from varestorer_core.distill.loop import LoopSettings, train
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.processes import Processes
from varestorer_core.distill.run import run_stage
from varestorer_core.distill.squares import mixed_squares
from varestorer_core.errors import CheckpointError


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_first(tmp_path, kind):
    whole = linear()
    run(tmp_path / "whole", whole, save_every=100)

    def step(index: int, loss: torch.Tensor) -> torch.Tensor:
        if index == 2:
            os.kill(os.getpid(), kind)
        return loss

    before = signal.getsignal(kind)
    with pytest.raises(Interrupted, match=r"step 3 is saved in .*--resume") as caught:
        run(tmp_path / "cut", linear(), step=step, save_every=100)
    assert caught.value.signal_number == kind
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(kind) is before
    again = linear()
    assert run(tmp_path / "cut", again, resume=True, save_every=100) == 6
    assert torch.equal(again.weight, whole.weight)


def test_the_second_ctrl_c_stops_at_once(tmp_path):
    def step(index: int, loss: torch.Tensor) -> torch.Tensor:
        if index == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # a handler may run a moment later
        return loss

    with pytest.raises(KeyboardInterrupt) as caught:
        run(tmp_path, linear(), step=step, save_every=100)
    assert not isinstance(caught.value, Interrupted)
    assert not (tmp_path / "state.pt").exists()


def test_a_limit_on_the_minutes_saves_and_stops(tmp_path):
    assert run(tmp_path, linear(), deadline=time.monotonic()) == 1
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 1
    assert run(tmp_path, linear(), resume=True, deadline=time.monotonic() + 600) == 6


def test_processes_stop_together(tmp_path):
    asked = []

    def average(value: torch.Tensor) -> torch.Tensor:
        asked.append(float(value))
        return value + 0.5  # the other process has been told to stop

    together = Processes(count=2, average=average)
    settings = LoopSettings(steps=6, log_every=2)
    assert train(tmp_path, Toy(linear()), SOURCE, settings, processes=together) == 1
    assert asked == [0.0]


def test_a_damaged_state_is_refused(tmp_path):
    for damage in (b"", b"PK damaged", b"\x80\x02K\x01."):
        (tmp_path / "state.pt").write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"state\.pt cannot be continued"):
            run(tmp_path, linear(), resume=True)
    run(tmp_path, linear())
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="use --overwrite instead of --resume"):
        run(tmp_path, linear(), resume=True)
    torch.save([1, 2], tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="cannot be continued"):
        run(tmp_path, linear(), resume=True)


def test_a_state_of_other_shapes_is_refused(tmp_path):
    run(tmp_path, linear(2))
    with pytest.raises(CheckpointError, match="same stage and configuration"):
        run(tmp_path, linear(3), resume=True)
    other = WeightAverage({"m": linear(3)}, 0.5)
    with pytest.raises(ValueError, match=r"lack m\.weight"):
        other.load(WeightAverage({"m": linear(2)}, 0.5).averages)


def write_and_die(path: Path, moment: str) -> None:
    """Kill this process while it writes a state, or before it renames the written one."""
    save = torch.save

    def die(*_) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half(content: object, file: BufferedWriter) -> None:
        save(content, file)
        file.truncate(file.tell() // 2)
        file.flush()
        die()

    if moment == "rename":
        Path.replace = die
    else:
        torch.save = half
    state_module.write_whole(path, {"step": 7, "weights": torch.zeros(1000)})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that can be killed cheaply")
@pytest.mark.parametrize("moment", ["write", "rename"])
def test_the_previous_state_survives_a_kill(tmp_path, moment):
    run(tmp_path, linear(), stop_at=3)
    before = (tmp_path / "state.pt").read_bytes()
    child = os.fork()
    if child == 0:
        try:
            write_and_die(tmp_path / "state.pt", moment)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert list(tmp_path.glob(".state.pt.*.tmp"))
    assert (tmp_path / "state.pt").read_bytes() == before
    atomic._temporary_files.cache_clear()  # as in the next process
    assert run(tmp_path, linear(), resume=True) == 6
    assert not list(tmp_path.glob(".state.pt.*.tmp"))


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    run(tmp_path, linear(), stop_at=3)

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module.torch, "save", full)
    with pytest.raises(
        CheckpointError, match=r"the disk is full.* The state of step 3 is still there"
    ):
        run(tmp_path, linear(), resume=True)
    with pytest.raises(CheckpointError, match="Nothing was saved before"):
        run(tmp_path / "new", linear())
    monkeypatch.undo()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3
    assert run(tmp_path, linear(), resume=True) == 6


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on files")
def test_a_checkpoint_that_the_system_does_not_take_keeps_the_last_one(tmp_path):
    """Not a mock: the kernel rejects the bytes in the middle of the file."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def tighten(step, loss):
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, usual[1]))
        return loss

    try:
        with pytest.raises(CheckpointError, match="The state of step 2 is still there"):
            run(tmp_path, linear(), step=tighten)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    assert not list(tmp_path.glob(".state.pt.*.tmp"))
    assert run(tmp_path, linear(), resume=True) == 6


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, caplog):
    log = CsvLog(tmp_path / "log.csv")
    log.path = tmp_path / "gone" / "log.csv"
    log.write(3, {"loss": 1.0})
    assert "lacks step 3" in caplog.text


class Clock:
    """A clock that only advances when a picture is drawn."""

    now = 0.0

    def monotonic(self):
        return self.now

    def draw(self, seed, index, size=192):
        self.now += 1
        return generate_picture(seed, index, size=size)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("varestorer_core.distill.interruption.time", clock)
    for module in ("data", "squares"):
        monkeypatch.setattr(f"varestorer_core.distill.{module}.generate_picture", clock.draw)
    return clock


def test_the_limit_bounds_the_drawing_which_continues(tmp_path, clock):
    whole = np.array(procedural_pictures(tmp_path / "whole.npy", 5, size=16))
    clock.now = 0
    path = tmp_path / "a.npy"
    with pytest.raises(DeadlineError, match="after 2 of 5 pictures"):
        procedural_pictures(path, 5, size=16, deadline=2)
    with pytest.raises(DeadlineError, match="after 2 of 5 pictures"):
        procedural_pictures(path, 5, size=16, deadline=2)
    np.testing.assert_array_equal(procedural_pictures(path, 5, size=16), whole)
    assert clock.now == 5
    np.testing.assert_array_equal(procedural_pictures(path, 5, size=16, deadline=0), whole)


def test_the_limit_bounds_the_drawing_beside_photographs(tmp_path, clock, monkeypatch):
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (32, 32), (90,) * 3).save(folder / "a.png")
    how = {"each": 1, "procedural": 4, "size": 16}
    whole = np.array(mixed_squares(tmp_path / "whole.npy", folder, **how))
    clock.now = 0
    with pytest.raises(DeadlineError, match="after 3 of 4 pictures"):
        mixed_squares(tmp_path / "a.npy", folder, **how, deadline=3)
    monkeypatch.setattr("varestorer_core.distill.squares.folder_pictures", None)
    np.testing.assert_array_equal(mixed_squares(tmp_path / "a.npy", folder, **how), whole)
    assert clock.now == 4
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.json", "a.npy"]


@pytest.mark.parametrize("limit", [1, 3], ids=["validation", "training"])
def test_a_run_whose_time_is_up_while_it_draws_continues(tmp_path, clock, micro_run, caplog, limit):
    settings = micro_run(tmp_path / "run", steps={"tokenizer": 1}, deadline=limit)
    with caplog.at_level(logging.INFO):
        assert not run_stage("tokenizer", settings)
    assert "tokenizer has not begun: The time limit was reached" in caplog.text
    assert not (settings.out / "tokenizer").exists()
    assert run_stage("tokenizer", dataclasses.replace(settings, deadline=None, resume=True))
    assert clock.now == 6  # two for validation and four for training, each drawn once


def test_the_limit_keeps_a_state_that_would_be_overwritten(tmp_path, clock, micro_run):
    settings = micro_run(tmp_path / "run", steps={"tokenizer": 1})
    assert run_stage("tokenizer", settings)
    state = (settings.out / "tokenizer" / "state.pt").read_bytes()
    (settings.out / "pictures.npy").unlink()
    again = dataclasses.replace(settings, overwrite=True, deadline=clock.now)
    assert not run_stage("tokenizer", again)
    assert (settings.out / "tokenizer" / "state.pt").read_bytes() == state
