"""Selection of kernels: timed once, stored for the machine, and no slower than PyTorch's own."""

import json
import os
import time

import pytest
import torch
import torch.nn.functional as F

from varestorer_core.cpu import choices, onednn, speed, winograd
from varestorer_core.cpu.attention import attention
from varestorer_core.cpu.speed import cache_file
from varestorer_core.cpu.switch import VARIABLE, mode


@pytest.fixture(autouse=True)
def _timed(monkeypatch, tmp_path):
    monkeypatch.setenv("VARESTORER_CPU_KERNELS", "auto")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(speed, "_ratios", {})
    monkeypatch.setattr(speed, "_spent", 0.0)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that only advances by `spend(seconds)`."""

    class Clock:
        now = 0.0

        def spend(self, seconds):
            self.now += seconds

    own = Clock()
    for name in ("thread_time", "process_time", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: own.now)
    return own


def way(clock, seconds, calls=None):
    def work():
        clock.spend(seconds)
        if calls is not None:
            calls.append(seconds)

    return work


@pytest.mark.parametrize(
    ("ours", "wins"), [(0.5, True), (0.85, True), (0.95, False), (1.0, False), (2.0, False)]
)
def test_the_faster_way_is_used(clock, ours, wins):
    trials = way(clock, ours / 1000), way(clock, 1 / 1000)
    assert speed.is_faster("path", "sample", lambda: trials) is wins
    ((key, choice),) = choices().items()
    assert key.startswith("path, sample, threads: ")
    assert choice == {"kernel": "ours" if wins else "PyTorch", "time_ratio": ours}


def test_an_interruption_of_pytorchs_kernel_decides_nothing(clock):
    # Another program runs during its warm-up and its first round.
    calls = []

    def theirs():
        calls.append(None)
        clock.spend(0.05 if len(calls) <= 2 else 0.001)

    assert not speed.is_faster("path", "a", lambda: (way(clock, 0.0012), theirs))
    ((_, choice),) = choices().items()
    assert choice["time_ratio"] == 1.2


def test_what_is_not_timed_is_left_to_pytorch(clock, monkeypatch):
    monkeypatch.setattr(speed, "_spent", 1.0)
    for ratios in (speed._ratios, {}):  # this process, and the next one
        monkeypatch.setattr(speed, "_ratios", ratios)
        assert not speed.is_faster("path", "a", lambda: pytest.fail("timed"))
        assert list(choices().values()) == [{"kernel": "PyTorch", "time_ratio": None}]


def test_with_several_threads_the_budget_is_not_divided_by_their_number(clock, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(time, "process_time", lambda: 16 * clock.now)
    for index in range(6):
        speed.is_faster("path", str(index), lambda: (way(clock, 0.001), way(clock, 0.002)))
    assert [choice["kernel"] for choice in choices().values()] == ["ours"] * 6


def test_a_path_is_timed_once_on_a_machine(clock, monkeypatch):
    assert speed.is_faster("path", "a", lambda: (way(clock, 0.001), way(clock, 0.002)))
    for ratios in (speed._ratios, {}):  # this process, and the next one
        monkeypatch.setattr(speed, "_ratios", ratios)
        assert speed.is_faster("path", "a", lambda: pytest.fail("timed again"))
    assert not speed.is_faster("path", "b", lambda: (way(clock, 0.002), way(clock, 0.001)))
    (kept,) = json.loads(speed.cache_file().read_text()).values()
    assert sorted(kept.values()) == pytest.approx([0.5, 2.0])


def test_a_decision_of_another_process_holds(clock, monkeypatch):
    def trials():  # the other process is done while this one is timing
        speed._keep(f"path, a, threads: {torch.get_num_threads()}", 3.0)
        return way(clock, 0.001), way(clock, 0.002)

    assert not speed.is_faster("path", "a", trials)


def test_timing_ends_within_the_budget(clock):
    for index in range(30):
        speed.is_faster("path", str(index), lambda: (way(clock, 0.001), way(clock, 0.002)))
    assert clock.now < speed._BUDGET + 2 * speed._SHARE + 0.01
    kernels = [choice["kernel"] for choice in choices().values()]
    assert kernels.count("PyTorch") > 5
    assert kernels.count("ours") > 5


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}"])
def test_a_damaged_file_is_replaced(clock, content):
    speed.cache_file().parent.mkdir()
    speed.cache_file().write_text(content)
    assert speed.is_faster("path", "a", lambda: (way(clock, 0.001), way(clock, 0.002)))
    assert json.loads(speed.cache_file().read_text())


@pytest.mark.parametrize("value", ["text", [1, 2], {"a": "b"}, True, [], "0.5"])
def test_entries_that_are_no_ratios_are_timed_again(clock, monkeypatch, value):
    def decide():
        return speed.is_faster("path", "a", lambda: (way(clock, 0.001), way(clock, 0.002)))

    assert decide()
    file = speed.cache_file()
    ((machine, ratios),) = json.loads(file.read_text()).items()
    for entry in (value, dict.fromkeys(ratios, value)):
        monkeypatch.setattr(speed, "_ratios", {})
        file.write_text(json.dumps({machine: entry, "another": value}))
        assert decide()
        assert json.loads(file.read_text())[machine] == ratios


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_file_is_not_read(clock):
    speed.cache_file().parent.mkdir()
    os.mkfifo(speed.cache_file())
    assert speed.is_faster("path", "a", lambda: (way(clock, 0.001), way(clock, 0.002)))


def test_without_a_folder_the_process_decides_for_itself(clock, monkeypatch, tmp_path):
    (tmp_path / "varestorer").write_text("a file in the place of the folder")
    assert speed.is_faster("path", "a", lambda: (way(clock, 0.001), way(clock, 0.002)))
    assert speed.is_faster("path", "a", lambda: pytest.fail("timed again"))


def test_a_relative_cache_folder_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert cache_file().is_absolute()
    assert "caches" not in cache_file().parts


def test_an_unknown_mode_is_reported_once(monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, "nonsense")
    assert [mode(), mode()] == ["auto", "auto"]
    assert caplog.text.count("must be off, all or auto, got 'nonsense'") == 1


@pytest.mark.parametrize("wins", [True, False])
def test_either_kernel_computes_attention(monkeypatch, wins):
    monkeypatch.setattr(speed, "_ratio", lambda *_: 0.5 if wins else 2.0)
    q, k, v = (torch.randn(1, 2, 520, 64) for _ in range(3))
    with torch.inference_mode():
        out, plain = attention(q, k, v), F.scaled_dot_product_attention(q, k, v)
    assert torch.equal(out, plain) is not wins or not wins
    assert torch.allclose(out, plain, atol=1e-5)


def test_timing_leaves_the_random_numbers_alone():
    state = torch.get_rng_state()
    for trials in (onednn._trials(torch.float32), winograd._trials()):
        for work in trials:
            with torch.inference_mode():
                work()
    assert torch.equal(torch.get_rng_state(), state)
