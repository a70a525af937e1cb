"""Compilation: one graph for each part, the same results, and errors in a sentence."""

import csv
import dataclasses
import shutil

import pytest
import torch

from varestorer_core.compiling import check_compiling, compile_networks, compiled, parts_to_compile
from varestorer_core.distill.run import STAGES, run_stage
from varestorer_core.errors import SettingError
from varestorer_core.kernels import accelerate
from varestorer_core.schedule import get_schedule

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
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SettingError, match=r"C\+\+ compiler"):
        check_compiling(torch.device("cpu"))


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
    with pytest.raises(SettingError, match=r"compile needs a C\+\+ compiler"):
        micro_run(tmp_path, compile_options={})
    assert not list(tmp_path.iterdir())
