"""Training every stage on a pretended CUDA device, with backward passes, in float32 and under autocast."""

import dataclasses

import apple
import pytest
import torch
from pretended import PretendedDevice
from torch.utils._pytree import tree_leaves

from varestorer_core.config import TokenizerConfig, TransformerConfig
from varestorer_core.distill.run import STAGES, RunSettings, run_stage
from varestorer_core.distill.skip_start import SkipSettings
from varestorer_core.distill.train_decoder import CRISP, DecoderSettings
from varestorer_core.distill.train_encoder import EncoderSettings
from varestorer_core.distill.train_student import StudentSettings
from varestorer_core.distill.train_teacher import TeacherSettings
from varestorer_core.distill.train_tokenizer import TokenizerSettings

STEPS = 3
"""The first one is logged and the last one evaluated and saved, so the one between shows what every step costs."""

COPIES = 12
"""Between host and device in a step: pictures, random flips of each of seven scales, constants of metrics."""


def _settings(out, amp):
    return RunSettings(
        out=out,
        pictures=2,
        picture_size=40,
        validation_pictures=1,
        steps=dict.fromkeys(STAGES, STEPS),
        device="cuda",
        tokenizer=TokenizerConfig(4, 8, (1, 2), num_res_blocks=1, norm_groups=1),
        transformer=TransformerConfig(16, 1, 2, 4, 8, 16, text_rows=2, pixel_class="0.06M"),
        tokenizer_settings=TokenizerSettings(
            batch=2, small_until=0.0, skip=SkipSettings(steps=1, batch=1), amp=amp
        ),
        teacher_settings=TeacherSettings(batch=1, amp=amp),
        encoder_settings=EncoderSettings(batch=1, amp=amp),
        decoder_settings=DecoderSettings(batch=1, amp=amp),
        crisp_settings=dataclasses.replace(CRISP, batch=1, amp=amp),
        student_settings=StudentSettings(batch=1, cross_entropy=1.0, amp=amp),
    )


@pytest.mark.parametrize("amp", [False, True], ids=["float32", "autocast"])
def test_every_stage_trains_there(tmp_path, amp):
    settings = _settings(tmp_path, amp)
    for stage in STAGES:
        with PretendedDevice() as device:
            counts = {}

            def report(what, done, total, loss, stage=stage, device=device, counts=counts):
                if what == stage:
                    counts[done] = (device.reads.copy(), device.copies.copy())

            assert run_stage(stage, settings, report)
        state = torch.load(tmp_path / stage / "state.pt", weights_only=True)
        assert state["step"] == STEPS
        values = [v for v in tree_leaves(state["modules"]) if isinstance(v, torch.Tensor)]
        assert values
        assert all(torch.isfinite(value).all() for value in values)
        (reads, copies), (more_reads, more_copies) = counts[1], counts[2]
        assert not more_reads - reads, (stage, more_reads - reads)
        copies = more_copies - copies
        assert copies.total() <= COPIES, (stage, copies)
        convolved = device.dtypes["aten::convolution"]
        assert (torch.bfloat16 in convolved) == (amp and stage != "teacher"), stage
        assert "aten::convolution_backward" in device.operators or stage == "teacher"
        # Backward passes cannot be pretended on an Apple GPU. There, areas are averaged on the CPU: see walk_apple.py.
        if available := apple.operators():
            assert set(device.operators) <= available | apple.LIMITED, stage
        assert not any(torch.float64 in dtypes for dtypes in device.dtypes.values()), stage
