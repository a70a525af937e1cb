"""Every stage under a kill, Ctrl-C, SIGTERM, a full disk and a changed setting: nothing is lost.

The stages before one are trained once and copied. What a stage ends with after it was disturbed and continued is
compared with what it ends with undisturbed.
"""

import dataclasses
import os
import shutil
import signal
import sys
import warnings

import pytest
import torch

from varestorer_core.distill.interruption import Interrupted
from varestorer_core.distill.run import STAGES, RunSettings, run_stage
from varestorer_core.errors import CheckpointError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork and limits on files"),
]

STEPS = 5
SAVE_EVERY = 2
DISTURBED_AFTER = 3
"""Steps, of which two are saved."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Forked children may not use OpenMP's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, micro_settings):
    """Return the settings of a run whose stages were all trained undisturbed."""
    settings = micro_settings(tmp_path_factory.mktemp("whole") / "run")
    for stage in STAGES:
        assert run_stage(stage, settings)
    return settings


@pytest.fixture(scope="module")
def micro_settings(micro_run):
    def make(out) -> RunSettings:
        steps = dict.fromkeys(STAGES, STEPS)
        return micro_run(out, steps=steps, validation_pictures=1, save_every=SAVE_EVERY)

    return make


@pytest.fixture(params=STAGES)
def stage(request):
    return request.param


@pytest.fixture
def settings(stage, whole, tmp_path):
    """Return the settings of a run that has the stages before this one."""
    out = tmp_path / "run"
    shutil.copytree(whole.out, out)
    for later in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(out / later)
    return dataclasses.replace(whole, out=out)


def at_step(stage, act):
    """Return a report that acts once so many steps are done: of the stage itself, not of the tokenizer's start."""
    calls = []

    def report(what, done, total, loss):
        # A tokenizer's start has as many steps, so its own follow.
        calls.append(what)
        counted = calls.count(stage) - (STEPS if stage == "tokenizer" else 0)
        if what == stage and counted == DISTURBED_AFTER:
            act()

    return report


def state_of(settings, stage):
    return torch.load(settings.out / stage / "state.pt", weights_only=True)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def logged_steps(settings, stage):
    lines = (settings.out / stage / "log.csv").read_text().splitlines()[1:]
    return {int(line.split(",")[0]) for line in lines}


def assert_continues(stage, settings, whole):
    assert run_stage(stage, dataclasses.replace(settings, resume=True))
    assert equal(state_of(settings, stage), state_of(whole, stage))
    assert logged_steps(whole, stage) <= logged_steps(settings, stage)
    assert not list(settings.out.rglob("*.tmp"))


def test_killed(stage, settings, whole):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of Python 3.12, where there are threads
        child = os.fork()
    if child == 0:
        try:
            run_stage(stage, settings, at_step(stage, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert state_of(settings, stage)["step"] == SAVE_EVERY
    assert_continues(stage, settings, whole)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=lambda kind: kind.name)
def test_interrupted(stage, settings, whole, kind):
    with pytest.raises(Interrupted, match="--resume"):
        run_stage(stage, settings, at_step(stage, lambda: os.kill(os.getpid(), kind)))
    assert state_of(settings, stage)["step"] == DISTURBED_AFTER + 1
    assert_continues(stage, settings, whole)


def test_full_disk(stage, settings, whole):
    """The kernel refuses the bytes of every file that grows from then on."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError, match=f"The state of step {SAVE_EVERY} is still there"):
            run_stage(
                stage,
                settings,
                at_step(stage, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert state_of(settings, stage)["step"] == SAVE_EVERY
    assert_continues(stage, settings, whole)


def test_changed_setting(stage, settings, whole):
    with pytest.raises(Interrupted):
        run_stage(stage, settings, at_step(stage, lambda: os.kill(os.getpid(), signal.SIGINT)))
    before = (settings.out / stage / "state.pt").read_bytes()
    changed = dataclasses.replace(settings, resume=True, learning_rate=1e-4, seed=7)
    with pytest.raises(CheckpointError, match="learning_rate") as caught:
        run_stage(stage, changed)
    assert "seed" in str(caught.value)
    assert (settings.out / stage / "state.pt").read_bytes() == before
    with pytest.raises(CheckpointError, match="--overwrite"):
        run_stage(stage, settings)
    assert (settings.out / stage / "state.pt").read_bytes() == before
    assert_continues(stage, settings, whole)
