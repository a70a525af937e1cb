"""The training loop: averages, accumulation, logs, checkpoints that survive, and how it stops."""

import os
import signal
import sys
import time
import types
from io import BufferedWriter
from pathlib import Path

import numpy as np
import pytest
import torch

from varestorer_core.distill import loop
from varestorer_core.distill import state as state_module
from varestorer_core.distill.batches import Draw
from varestorer_core.distill.ema import WeightAverage
from varestorer_core.distill.export import half_matrices
from varestorer_core.distill.interruption import Interrupted
from varestorer_core.distill.logs import CsvLog, TensorBoardLog
from varestorer_core.distill.loop import LoopSettings, TrainingError, learning_rate, train
from varestorer_core.distill.processes import Processes
from varestorer_core.distill.run import RunSettings
from varestorer_core.distill.sources import Squares
from varestorer_core.errors import CheckpointError, SettingError


def linear(inputs: int = 2) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, 2)


class Toy:
    """A stage that draws 2 x 2 pictures and asks for small outputs of a linear layer."""

    draws = (Draw(4, 2),)

    def __init__(self, module: torch.nn.Module, step=None, evaluate=None):
        self.modules = {"m": module}
        self.module, self._step, self._evaluate = module, step, evaluate
        self.batches: list[torch.Tensor] = []

    def step(self, step, batch, generator):
        x = batch["clean"][:, 0, 0, : self.module.in_features]
        x = x + 0.1 * torch.rand(x.shape, generator=generator)
        self.batches.append(batch["clean"])
        loss = self.module(x).square().mean()
        return {"loss": loss if self._step is None else self._step(step, loss)}

    def evaluate(self, step, folder):
        return {} if self._evaluate is None else self._evaluate(step)


SOURCE = Squares(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8))


def run(folder, module, *, resume=False, step=None, evaluate=None, **settings) -> int:
    values = {"steps": 6, "warmup": 2, "save_every": 2, **settings}
    toy = module if isinstance(module, Toy) else Toy(module, step, evaluate)
    return train(folder, toy, SOURCE, LoopSettings(**values), resume=resume)


@pytest.mark.parametrize(
    "more", [{}, {"ema": 0.5}, {"accumulate": 3}, {"ema": 0.9, "accumulate": 2}]
)
def test_stopping_changes_nothing(tmp_path, more):
    straight, halves = linear(), linear()
    run(tmp_path / "a", straight, **more)
    assert run(tmp_path / "b", halves, stop_at=3, **more) == 3
    halves = linear()
    assert run(tmp_path / "b", halves, resume=True, **more) == 6
    assert torch.equal(straight.weight, halves.weight)
    a, b = (torch.load(tmp_path / n / "state.pt", weights_only=True) for n in "ab")
    assert torch.equal(a["modules"]["m"]["weight"], b["modules"]["m"]["weight"])


def test_accumulated_batches_give_the_gradient_of_their_union(tmp_path):
    module = linear()
    seen: dict[str, torch.Tensor] = {}

    def evaluate(_: int) -> dict[str, float]:
        seen.update(weight=module.weight.grad.clone(), bias=module.bias.grad.clone())
        return {}

    toy = Toy(module, evaluate=evaluate)
    toy.step = lambda step, batch, generator: (  # without random numbers of its own
        toy.batches.append(batch["clean"])
        or {"loss": module(batch["clean"][:, 0, 0]).square().mean()}
    )
    # So slow that the weights stay what they were.
    run(tmp_path, toy, steps=1, accumulate=3, clip=1e9, learning_rate=1e-12, weight_decay=0.0)
    assert len(toy.batches) == 3
    module.zero_grad()
    module(torch.cat(toy.batches)[:, 0, 0]).square().mean().backward()
    torch.testing.assert_close(seen["weight"], module.weight.grad)
    torch.testing.assert_close(seen["bias"], module.bias.grad)


def test_gradients_are_clipped(tmp_path):
    module = linear()
    norms = []

    def evaluate(_: int) -> dict[str, float]:
        norms.append(float(torch.cat([p.grad.flatten() for p in module.parameters()]).norm()))
        return {}

    run(tmp_path, module, step=lambda _, loss: 1e6 * loss, evaluate=evaluate, steps=1, clip=0.5)
    assert norms == [pytest.approx(0.5, rel=1e-4)]


def test_the_average_is_the_plain_recursion():
    module = linear()
    average = WeightAverage({"m": module}, 0.3)
    expected = module.weight.detach().double().numpy().copy()
    for step in range(8):
        with torch.no_grad():
            module.weight.add_(step + 1.0)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach().double().numpy()
        average.update(step)
    np.testing.assert_allclose(average.averages["m"]["weight"], expected, rtol=1e-5)
    before = module.weight.detach().clone()
    with average.applied():
        np.testing.assert_allclose(module.weight.detach(), expected, rtol=1e-5)
    assert torch.equal(module.weight, before)


def test_the_average_is_what_is_evaluated_and_returned(tmp_path):
    module = linear()
    evaluated = []

    def evaluate(_: int) -> dict[str, float]:
        evaluated.append(module.weight.detach().clone())
        return {}

    run(tmp_path, module, evaluate=evaluate, steps=5, ema=0.9)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert torch.equal(evaluated[-1], state["ema"]["m"]["weight"])
    assert torch.equal(module.weight, state["ema"]["m"]["weight"])
    assert not torch.equal(module.weight, state["modules"]["m"]["weight"])


def test_frozen_weights_are_not_averaged():
    module = linear()
    module.bias.requires_grad_(False)
    assert WeightAverage({"m": module}, 0.5).averages["m"].keys() == {"weight"}


def test_a_state_without_an_average_starts_one_and_one_with_it_can_do_without(tmp_path, caplog):
    run(tmp_path, linear(), stop_at=3)
    assert "ema" not in torch.load(tmp_path / "state.pt", weights_only=True)
    module = linear()
    run(tmp_path, module, resume=True, ema=0.9, stop_at=4)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert not torch.equal(state["ema"]["m"]["weight"], state["modules"]["m"]["weight"])
    run(tmp_path, linear(), resume=True)
    assert "averaged weights, which are dropped" in caplog.text
    assert "ema" not in torch.load(tmp_path / "state.pt", weights_only=True)


def test_a_loss_of_nan_stops_and_leaves_its_batches(tmp_path):
    toy = Toy(linear(), lambda step, loss: loss * float("nan") if step == 3 else loss)
    with pytest.raises(TrainingError, match="loss became nan at step 3") as caught:
        run(tmp_path, toy, accumulate=2)
    assert str(tmp_path / "bad_batch.pt") in str(caught.value)
    kept = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert kept["step"] == 3
    assert len(kept["batches"]) == 2
    for batch, seen in zip(kept["batches"], toy.batches[6:8], strict=True):
        assert torch.equal(batch["clean"], seen)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2


def test_gradients_of_nan_are_never_saved(tmp_path):
    module = linear()

    def step(index: int, loss: torch.Tensor) -> torch.Tensor:
        # The root of 0 is finite, its slope is not.
        return loss + (0 * module.bias).sum().sqrt() if index == 3 else loss

    with pytest.raises(TrainingError, match="gradient's norm became nan at step 3"):
        run(tmp_path, module, step=step, log_every=100, save_every=2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert torch.isfinite(state["modules"]["m"]["weight"]).all()


@pytest.mark.parametrize("ema", [0, 0.9])
@pytest.mark.parametrize("bad", [1, 4])
def test_weights_of_nan_are_never_saved(tmp_path, monkeypatch, bad, ema):
    """A step can ruin weights although loss and gradients were numbers: those are from before it."""
    step = torch.optim.AdamW.step
    count = iter(range(10))

    def ruin(self):
        step(self)
        if next(count) == bad:
            self.param_groups[0]["params"][0].data[0, 0] = float("nan")

    monkeypatch.setattr(torch.optim.AdamW, "step", ruin)
    # The last step is the one that nothing after it would notice.
    with pytest.raises(TrainingError, match=r"weights became NaN or infinite by step \d") as caught:
        run(tmp_path, linear(), steps=bad + 1, save_every=2, ema=ema)
    state = tmp_path / "state.pt"
    if bad == 1:
        assert "Nothing was saved before" in str(caught.value)
        assert not state.exists()
        return
    assert f"of step 4, are in {state}" in str(caught.value)
    kept = torch.load(state, weights_only=True)
    assert kept["step"] == 4
    assert all(value.isfinite().all() for value in kept["modules"]["m"].values())
    monkeypatch.undo()
    assert run(tmp_path, linear(), steps=bad + 1, ema=ema, resume=True) == bad + 1


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_weights_that_no_loader_accepts_are_not_exported(value):
    with pytest.raises(CheckpointError, match="nothing was exported"):
        half_matrices({"a": torch.full((2, 2), value)})


def test_values_are_read_once_a_logging_interval(tmp_path, monkeypatch):
    reads = []
    plain = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: reads.append(t.shape) or plain(t))
    for name in ("__float__", "__bool__", "item"):
        monkeypatch.setattr(
            torch.Tensor, name, lambda *_, name=name: pytest.fail(f"a value was read by {name}")
        )
    # AdamW reads its own counter of steps, which stays on the CPU.
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda _: None)
    toy = Toy(linear())
    batch = {"clean": torch.zeros(4, 3, 4, 4, dtype=torch.uint8)}
    monkeypatch.setattr(loop, "load_batches", lambda *_: (batch for _ in range(9)))
    monkeypatch.setattr(loop, "save_state", lambda *_, **__: None)
    run(tmp_path, toy, steps=9, log_every=4, save_every=100)
    # Then the weights, once, because they are saved.
    assert [shape[0] for shape in reads] == [1, 4, 4, 2]


def test_logged_figures_are_means_since_the_last_row(tmp_path):
    run(tmp_path, linear(), step=lambda step, loss: 0 * loss + step, steps=5, log_every=2)
    rows = [row.split(",") for row in (tmp_path / "log.csv").read_text().split()]
    losses = {int(step): float(value) for step, name, value in rows[1:] if name == "loss"}
    # Saving at 2 and 4 steps reads the values, too.
    assert losses == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}


def test_progress_carries_the_loss(tmp_path):
    shown = []
    train(
        tmp_path, Toy(linear()), SOURCE, LoopSettings(steps=2),
        on_progress=lambda *values: shown.append(values),
    )  # fmt: skip
    assert [(done, total) for done, total, _ in shown] == [(1, 2), (2, 2)]
    assert all(loss > 0 for *_, loss in shown)


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
    with pytest.raises(CheckpointError, match="give --overwrite instead of --resume"):
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
    with pytest.raises(CheckpointError, match=r"the disk is full.* The state of step 3 is kept"):
        run(tmp_path, linear(), resume=True)
    with pytest.raises(CheckpointError, match="Nothing was saved before"):
        run(tmp_path / "new", linear())
    monkeypatch.undo()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3
    assert run(tmp_path, linear(), resume=True) == 6


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on files")
def test_a_checkpoint_that_the_system_does_not_take_keeps_the_last_one(tmp_path):
    """Not a mock: the kernel refuses the bytes, in the middle of the file."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)

    def tighten(step, loss):
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, usual[1]))
        return loss

    try:
        with pytest.raises(CheckpointError, match="The state of step 2 is kept"):
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


def test_learning_rate_warms_up_and_decays():
    settings = LoopSettings(steps=100, learning_rate=1.0, warmup=10)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.02
    assert np.all(np.diff(rates[10:]) < 0)


@pytest.mark.parametrize(
    "wrong",
    [{"ema": 1.0}, {"ema": -0.1}, {"accumulate": 0}, {"steps": 0}, {"learning_rate": float("nan")}],
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        LoopSettings(**{"steps": 1, **wrong})


def test_log_drops_rows_that_will_be_repeated(tmp_path):
    log = CsvLog(tmp_path / "log.csv")
    for step in range(4):
        log.write(step, {"loss": step})
    CsvLog(tmp_path / "log.csv", keep_below=2).write(2, {"loss": 9})
    rows = (tmp_path / "log.csv").read_text().split()
    assert rows == ["step,name,value", "0,loss,0", "1,loss,1", "2,loss,9"]


def test_tensorboard_gets_the_same_figures(tmp_path, monkeypatch):
    calls = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None):
            calls.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            calls.append("closed")

    fake = types.ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    run(tmp_path, linear(), stop_at=2, tensorboard=True)
    assert calls[0] == (str(tmp_path / "tensorboard"), None)
    assert ("loss", 0) in calls
    assert calls[-1] == "closed"
    calls.clear()
    run(tmp_path, linear(), resume=True, tensorboard=True, log_every=1)
    assert calls[0] == (str(tmp_path / "tensorboard"), 2)
    assert ("grad_norm", 5) in calls


def test_tensorboard_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SettingError, match=r"varestorer\[train\]"):
        TensorBoardLog(tmp_path)
    with pytest.raises(SettingError, match=r"varestorer\[train\]"):
        RunSettings(tmp_path, tensorboard=True)  # before pictures are drawn
