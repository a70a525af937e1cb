"""The training loop: averages, accumulation, logs, checkpoints that survive, and how it stops."""

import copy
import os
import signal
import sys
import types
from io import BufferedWriter
from pathlib import Path

import numpy as np
import pytest
import torch

from varestorer_core.distill import state as state_module
from varestorer_core.distill.ema import WeightAverage
from varestorer_core.distill.logs import CsvLog, TensorBoardLog
from varestorer_core.distill.loop import LoopSettings, TrainingError, learning_rate, train
from varestorer_core.distill.run import RunSettings
from varestorer_core.errors import CheckpointError, SettingError


def linear(inputs: int = 2) -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, 2)


def squares_of(module: torch.nn.Linear, batch: dict[str, torch.Tensor] | None = None):
    """Return a step function that draws 4 vectors and asks for small outputs."""

    def step(_: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        x = torch.rand(4, module.in_features, generator=generator)
        if batch is not None:
            batch["x"] = x
        return {"loss": module(x).square().mean()}

    return step


def run(folder, module, *, batch=None, resume=False, step=None, **settings) -> int:
    values = {"steps": 6, "warmup": 2, "save_every": 2, **settings}
    step = step or squares_of(module, batch)
    return train(folder, {"m": module}, step, LoopSettings(**values), resume=resume, batch=batch)


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
    assert torch.equal(a["generator"], b["generator"])


def test_accumulated_batches_give_the_gradient_of_their_union(tmp_path):
    module = linear()
    whole = copy.deepcopy(module)
    drawn = torch.Generator().manual_seed(0)
    x = torch.cat([torch.rand(4, 2, generator=drawn) for _ in range(3)])
    whole(x).square().mean().backward()
    seen: dict[str, torch.Tensor] = {}

    def evaluate(_: int) -> dict[str, float]:
        seen.update(weight=module.weight.grad, bias=module.bias.grad)
        return {}

    settings = LoopSettings(steps=1, accumulate=3, clip=1e9)
    train(tmp_path, {"m": module}, squares_of(module), settings, evaluate=evaluate)
    torch.testing.assert_close(seen["weight"], whole.weight.grad)
    torch.testing.assert_close(seen["bias"], whole.bias.grad)


def test_gradients_are_clipped(tmp_path):
    module = linear()
    norms = []

    def evaluate(_: int) -> dict[str, float]:
        norms.append(float(torch.cat([p.grad.flatten() for p in module.parameters()]).norm()))
        return {}

    def step(*_) -> dict[str, torch.Tensor]:
        return {"loss": 1000 * module.weight.sum() + module.bias.sum()}

    train(tmp_path, {"m": module}, step, LoopSettings(steps=1, clip=0.5), evaluate=evaluate)
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

    settings = LoopSettings(steps=5, ema=0.9)
    train(tmp_path, {"m": module}, squares_of(module), settings, evaluate=evaluate)
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


def test_a_loss_that_is_no_number_stops_and_leaves_its_batch(tmp_path):
    module, batch = linear(), {}
    plain = squares_of(module, batch)

    def step(index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        loss = plain(index, generator)["loss"]
        return {"loss": loss * float("nan") if index == 3 else loss}

    with pytest.raises(TrainingError, match="loss became nan at step 3") as caught:
        run(tmp_path, module, batch=batch, step=step)
    assert str(tmp_path / "bad_batch.pt") in str(caught.value)
    kept = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert kept["step"] == 3
    assert torch.equal(kept["batches"][0]["x"], batch["x"])
    again = torch.Generator()
    again.set_state(kept["generator"])
    assert torch.equal(torch.rand(4, 2, generator=again), batch["x"])
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2


def test_gradients_that_are_no_numbers_never_reach_the_weights(tmp_path):
    module, batch = linear(), {}

    def step(index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        batch["x"] = torch.rand(1, 2, generator=generator)
        # The root of 0 is a number, its slope is not.
        spoiled = (0 * module.bias).sum().sqrt() if index == 1 else 0
        return {"loss": module(batch["x"]).square().mean() + spoiled}

    with pytest.raises(TrainingError, match="gradient's norm became nan at step 1"):
        run(tmp_path, module, batch=batch, step=step, accumulate=2)
    assert torch.isfinite(module.weight).all()
    kept = torch.load(tmp_path / "bad_batch.pt", weights_only=True)
    assert len(kept["batches"]) == 2
    assert torch.equal(kept["batches"][1]["x"], batch["x"])


def test_progress_carries_the_loss(tmp_path):
    module, shown = linear(), []
    settings = LoopSettings(steps=2)
    train(
        tmp_path, {"m": module}, squares_of(module), settings,
        on_progress=lambda *values: shown.append(values),
    )  # fmt: skip
    assert [(done, total) for done, total, _ in shown] == [(1, 2), (2, 2)]
    assert all(loss > 0 for *_, loss in shown)


def test_a_damaged_state_is_refused(tmp_path):
    for damage in (b"", b"PK damaged", b"\x80\x02K\x01."):
        (tmp_path / "state.pt").write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"state\.pt cannot be continued"):
            run(tmp_path, linear(), resume=True)
    run(tmp_path, linear())
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="leave out --resume"):
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
    assert (tmp_path / "state.pt.partial").exists()
    assert (tmp_path / "state.pt").read_bytes() == before
    assert run(tmp_path, linear(), resume=True) == 6
    assert not (tmp_path / "state.pt.partial").exists()


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    run(tmp_path, linear(), stop_at=3)

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module.torch, "save", full)
    with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
        run(tmp_path, linear(), resume=True)
    monkeypatch.undo()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3


def test_learning_rate_warms_up_and_decays():
    settings = LoopSettings(steps=100, learning_rate=1.0, warmup=10)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.02
    assert np.all(np.diff(rates[10:]) < 0)


@pytest.mark.parametrize("wrong", [{"ema": 1.0}, {"ema": -0.1}, {"accumulate": 0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        LoopSettings(steps=1, **wrong)


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
