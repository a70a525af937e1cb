"""Compilation: one graph for each part, the same results, and errors in a sentence."""

import csv
import dataclasses
import re
import shutil
import sys
from contextlib import nullcontext

import pytest
import torch

from varestorer_core.compiling import check_compiling, compile_networks, compiled, parts_to_compile
from varestorer_core.distill.run import STAGES, run_stage
from varestorer_core.errors import SettingError
from varestorer_core.kernels import accelerate
from varestorer_core.schedule import get_schedule
from varestorer_core.tiles.batching import is_out_of_memory

SCHEDULE = get_schedule(1.0, "0.06M")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _inputs(model):
    tokens = torch.randn(1, SCHEDULE.num_tokens_long - 1, 6)
    return tokens, model.encode_text(), SCHEDULE


@pytest.mark.parametrize("fast", [False, True], ids=["plain", "accelerated"])
def test_every_part_is_one_graph(make_transformer, make_tokenizer, fast):
    model, tokenizer = make_transformer(depth=1), make_tokenizer()
    if fast:
        model, tokenizer = accelerate(model), accelerate(tokenizer)
    with torch.inference_mode():
        text = model.encode_text()
        x = torch.randn(1, SCHEDULE.num_tokens_long, 32)
        rope = model.rope(SCHEDULE, 0, x.shape[1], x.device)
        inputs = {
            model.blocks[0]: (x, text.blocks[0], rope),
            tokenizer.encoder: (torch.randn(1, 3, 32, 32),),
            tokenizer.decoder: (torch.randn(1, 6, 4, 4),),
        }
        assert {*parts_to_compile(model), *parts_to_compile(tokenizer)} == set(inputs)
        for part, given in inputs.items():
            torch._dynamo.reset()
            found = torch._dynamo.explain(part)(*given)
            assert (found.graph_count, found.graph_break_count) == (1, 0), found


def test_compiled_networks_compute_the_same(make_transformer):
    model = make_transformer()
    with torch.inference_mode():
        inputs = _inputs(model)
        plain = model(*inputs)
        with compiled(model, {"backend": "eager", "fullgraph": True}):
            within = model(*inputs)
        assert all(part._compiled_call_impl is None for part in parts_to_compile(model))
        compile_networks(model, backend="eager", fullgraph=True)
        assert all(part._compiled_call_impl is not None for part in parts_to_compile(model))
        torch.testing.assert_close(within, plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(*inputs), plain, atol=1e-5, rtol=1e-5)


def test_a_network_that_was_compiled_is_not_compiled_again(make_transformer):
    model = make_transformer(depth=1)
    calls = []

    def backend(graph, _inputs):
        calls.append(graph)
        return graph

    with torch.inference_mode():
        inputs = _inputs(model)
        for _ in range(2):
            with compiled(model, {"backend": backend}):
                model(*inputs)
    assert len(calls) == 1


def test_where_compiling_cannot_work(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    with pytest.raises(SettingError, match=r"7\.0 or newer, this one has 6\.1"):
        check_compiling(CUDA)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingError, match="triton"):
        check_compiling(CUDA)
    with pytest.raises(SettingError, match="got mps"):
        check_compiling(torch.device("mps"))


@pytest.mark.parametrize(
    ("device", "variable", "platform", "usual", "other"),
    [
        ("cpu", "CXX", "linux", "g++", "clang++"),
        ("cpu", "CXX", "darwin", "clang++", "g++"),
        ("cpu", "CXX", "win32", "cl", "g++"),
        ("cuda", "CC", "linux", "gcc", "cc"),
        ("cuda", "CC", "linux", "clang", "cc"),
    ],
)
def test_the_compiler_that_pytorch_runs_must_exist(
    monkeypatch, device, variable, platform, usual, other
):
    installed = set()
    monkeypatch.setattr(shutil, "which", lambda name: name if name in installed else None)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.delenv(variable, raising=False)
    installed.add(other)  # which PyTorch does not run by itself
    with pytest.raises(SettingError, match=f"none was found.* variable {variable}"):
        check_compiling(torch.device(device))
    monkeypatch.setenv(variable, other)
    check_compiling(torch.device(device))
    monkeypatch.setenv(variable, "nowhere/cc")
    with pytest.raises(SettingError, match=f"{variable} names nowhere/cc, which was not found"):
        check_compiling(torch.device(device))
    monkeypatch.delenv(variable)
    installed.add(usual)
    check_compiling(torch.device(device))


def test_triton_on_windows_needs_no_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    check_compiling(CUDA)


class CompilerError(RuntimeError):
    """An error like TorchInductor's: a long command, then the compiler's output."""

    output = "In file included from x.cpp:3:\nx.cpp:4:10: fatal error: Python.h: No such file\n"

    def __init__(self):
        super().__init__(
            f"C++ compile error\n\nCommand:\ng++ {'-I/include ' * 400}\n\n{self.output}"
        )


@pytest.mark.parametrize("within", [False, True], ids=["for good", "in a context"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CompilerError(), "fatal error: Python.h: No such file. Disable compilation"),
        (RuntimeError(f"Command {'x' * 5000} returned 1"), "xxx returned 1. Disable"),
    ],
)
def test_a_compiler_that_fails_is_a_sentence_with_its_reason(
    make_transformer, within, error, words
):
    def backend(graph, _inputs):
        raise error

    model = make_transformer(depth=1)
    how = {"backend": backend}
    if not within:
        compile_networks(model, **how)
    with torch.inference_mode():
        inputs = _inputs(model)
        with (
            compiled(model, how) if within else nullcontext(),
            pytest.raises(SettingError, match=re.escape(words)) as raised,
        ):
            model(*inputs)
    assert str(raised.value).startswith("torch.compile failed: ")
    assert len(str(raised.value)) < 1000


def test_memory_that_runs_out_while_compiling_stays_that_error(make_transformer):
    def backend(graph, _inputs):
        raise RuntimeError("CUDA out of memory.")

    model = make_transformer(depth=1)
    compile_networks(model, backend=backend)
    with torch.inference_mode(), pytest.raises(RuntimeError) as raised:
        model(*_inputs(model))
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "stages", [STAGES[:2], pytest.param(STAGES, marks=pytest.mark.slow)], ids=["two", "all"]
)
def test_stages_train_compiled(stages, tmp_path, micro_run):
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    settings = micro_run(tmp_path, steps=dict.fromkeys(STAGES, 1))
    plain = dataclasses.replace(settings, out=tmp_path / "plain")
    within = dataclasses.replace(
        settings, out=tmp_path / "compiled", compile_options={"backend": backend}
    )
    for stage in stages:
        losses = []
        for run in (plain, within):
            torch._dynamo.reset()  # graphs of an earlier stage would be reused
            graphs.clear()
            assert run_stage(stage, run)
            with (run.out / stage / "log.csv").open() as file:
                losses += [float(r["value"]) for r in csv.DictReader(file) if r["name"] == "loss"]
        assert graphs, stage
        assert losses[0] == pytest.approx(losses[1], rel=1e-3), stage


def test_a_run_that_cannot_be_compiled_is_refused_before_it_draws(tmp_path, monkeypatch, micro_run):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SettingError, match=r"compile needs a C\+\+ compiler"):
        micro_run(tmp_path, compile_options={})
    assert not list(tmp_path.iterdir())
