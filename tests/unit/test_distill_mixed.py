"""Mixed precision in training: which networks run in bfloat16, and on which devices."""

import dataclasses

import pytest
import torch

from varestorer_core.distill import mixed
from varestorer_core.distill.run import STAGES, run_stage
from varestorer_core.models.autoencoder import Decoder, Encoder
from varestorer_core.models.tokenizer import VisualTokenizer


def test_bits_come_from_float32_while_the_decoder_runs_in_bfloat16(
    tmp_path, monkeypatch, micro_run
):
    monkeypatch.setattr(mixed, "has_fast_bfloat16", lambda _: True)
    seen = {Encoder: set(), Decoder: set()}

    def watch(kind):
        plain = kind.forward

        def forward(self, x):
            if torch.is_grad_enabled():
                seen[kind].add(torch.is_autocast_enabled("cpu"))
            else:
                seen[kind].add(torch.is_autocast_enabled("cpu") and kind is Encoder)
            return plain(self, x)

        monkeypatch.setattr(kind, "forward", forward)

    watch(Encoder)
    watch(Decoder)
    settings = micro_run(tmp_path, steps=dict.fromkeys(STAGES, 1))
    for stage in STAGES:
        run_stage(stage, settings)
    assert seen[Encoder] == {False}
    assert True in seen[Decoder]


@pytest.mark.parametrize(("fast", "wanted"), [(True, True), (True, False), (False, True)])
def test_autocast_only_where_it_is_wanted_and_fast(monkeypatch, fast, wanted):
    monkeypatch.setattr(mixed, "has_fast_bfloat16", lambda _: fast)
    with mixed.mixed_precision("cpu", wanted):
        assert torch.is_autocast_enabled("cpu") == (fast and wanted)


def test_the_teacher_s_tokenizer_is_on_the_training_device(tmp_path, monkeypatch, micro_run):
    settings = micro_run(tmp_path, steps=dict.fromkeys(STAGES, 1))
    run_stage("tokenizer", settings)
    moved = []
    plain = VisualTokenizer.to
    monkeypatch.setattr(VisualTokenizer, "to", lambda s, *a: moved.append(a) or plain(s, *a))
    run_stage("teacher", dataclasses.replace(settings, device="cpu:0"))
    assert ("cpu:0",) in moved
