"""The training loop: averages, accumulation, NaN, logs."""

import dataclasses
import sys
import types

import numpy as np
import pytest
import torch
from toy_training import SOURCE, Toy, linear, run

from varestorer_core.distill import loop
from varestorer_core.distill.ema import WeightAverage
from varestorer_core.distill.export import half_matrices
from varestorer_core.distill.logs import CsvLog, TensorBoardLog
from varestorer_core.distill.loop import LoopSettings, TrainingError, learning_rate, train
from varestorer_core.distill.run import RunSettings
from varestorer_core.errors import CheckpointError, SettingError


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
    # A rate so low that the weights do not change.
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
        # The square root of 0 is finite, but its slope is not.
        return loss + (0 * module.bias).sum().sqrt() if index == 3 else loss

    with pytest.raises(TrainingError, match="gradient's norm became nan at step 3"):
        run(tmp_path, module, step=step, log_every=100, save_every=2)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert torch.isfinite(state["modules"]["m"]["weight"]).all()


@pytest.mark.parametrize("ema", [0, 0.9])
@pytest.mark.parametrize("bad", [1, 4])
def test_weights_of_nan_are_never_saved(tmp_path, monkeypatch, bad, ema):
    """A step can make weights invalid although loss and gradients were finite, since those are from before it."""
    step = torch.optim.AdamW.step
    count = iter(range(10))

    def ruin(self):
        step(self)
        if next(count) == bad:
            self.param_groups[0]["params"][0].data[0, 0] = float("nan")

    monkeypatch.setattr(torch.optim.AdamW, "step", ruin)
    # Errors of the last step would not be detected by a later one.
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
    # AdamW reads its own step counter, which is on the CPU.
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda _: None)
    toy = Toy(linear())
    batch = {"clean": torch.zeros(4, 3, 4, 4, dtype=torch.uint8)}
    monkeypatch.setattr(loop, "load_batches", lambda *_: (batch for _ in range(9)))
    monkeypatch.setattr(loop, "save_state", lambda *_, **__: None)
    run(tmp_path, toy, steps=9, log_every=4, save_every=100)
    # Then the weights are read once for saving.
    assert [shape[0] for shape in reads] == [1, 4, 4, 2]


def test_logged_figures_are_means_since_the_last_row(tmp_path):
    run(tmp_path, linear(), step=lambda step, loss: 0 * loss + step, steps=5, log_every=2)
    rows = [row.split(",") for row in (tmp_path / "log.csv").read_text().split()]
    losses = {int(step): float(value) for step, name, value in rows[1:] if name == "loss"}
    # Saving at 2 and 4 steps also reads the values.
    assert losses == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}


def test_progress_carries_the_loss(tmp_path):
    shown = []
    train(
        tmp_path, Toy(linear()), SOURCE, LoopSettings(steps=2),
        on_progress=lambda *values: shown.append(values),
    )  # fmt: skip
    assert [(done, total) for done, total, _ in shown] == [(1, 2), (2, 2)]
    assert all(loss > 0 for *_, loss in shown)


def test_progress_of_a_continued_run_has_no_loss_until_one_is_read(tmp_path):
    settings = LoopSettings(steps=6, stop_at=1, log_every=3)
    train(tmp_path, Toy(linear()), SOURCE, settings)
    shown = []
    train(
        tmp_path, Toy(linear()), SOURCE, dataclasses.replace(settings, stop_at=None), resume=True,
        on_progress=lambda *values: shown.append(values),
    )  # fmt: skip
    assert [loss is None for *_, loss in shown] == [True, True, False, False, False]


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
    with pytest.raises(SettingError, match="pip install tensorboard"):
        TensorBoardLog(tmp_path)
    with pytest.raises(SettingError, match="pip install tensorboard"):
        RunSettings(tmp_path, tensorboard=True)  # before pictures are drawn
