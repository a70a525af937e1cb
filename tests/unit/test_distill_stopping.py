"""Early stops of training and its checkpoints: signals, limits, damage, kills, full disks."""

import os
import signal
import time
from io import BufferedWriter
from pathlib import Path

import pytest
import torch
from toy_training import SOURCE, Toy, linear, run

from varestorer_core.distill import state as state_module
from varestorer_core.distill.ema import WeightAverage
from varestorer_core.distill.interruption import Interrupted
from varestorer_core.distill.logs import CsvLog
from varestorer_core.distill.loop import LoopSettings, train
from varestorer_core.distill.processes import Processes
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
