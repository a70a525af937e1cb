"""The student stage: adapters on shared weights, checkpointing, what each ablation leaves out.

That teacher-forced logits equal the official ones is tested in tests/parity/test_transformer.py.
"""

import dataclasses

import numpy as np
import pytest
import torch

from varestorer_core.checkpoint import load_transformer, read_checkpoint
from varestorer_core.distill.adapters import (
    adapters_of,
    save_activations,
    student_on_teacher,
    trainable_parameters,
)
from varestorer_core.distill.held_out import HeldOut
from varestorer_core.distill.loop import LoopSettings, train
from varestorer_core.distill.losses import log_odds
from varestorer_core.distill.procedural import generate_picture
from varestorer_core.distill.processes import Processes, accelerate_processes
from varestorer_core.distill.run import STAGES, run_export, run_stage
from varestorer_core.distill.sources import Squares
from varestorer_core.distill.train_student import StudentSettings, StudentStage
from varestorer_core.errors import CheckpointError, SettingError
from varestorer_core.loading import load_restorer
from varestorer_core.lora.factors import merge_adapter
from varestorer_core.lora.file import load_adapter
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.models.masks import block_causal_mask
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")
LOOP = LoopSettings(steps=2, learning_rate=0.02, warmup=0)


@pytest.fixture
def pictures():
    return np.stack([generate_picture(0, n, size=40) for n in range(2)])


@pytest.fixture
def networks(make_transformer, make_tokenizer):
    """Return (teacher, tokenizer) of two pixels a token."""
    teacher = make_transformer(depth=1, embed_dim=16, ffn_dim=16, codebook_dim=4)
    return teacher, make_tokenizer(codebook_dim=4, base_channels=4, channel_multipliers=(1, 2))


def distil(tmp_path, networks, pictures, prompt=None, **settings):
    teacher, tokenizer = networks
    wanted = StudentSettings(batch=1, **settings)
    held_out = HeldOut(pictures[:1, :32, :32], "cpu", wanted.degradation)
    stage = StudentStage(
        tokenizer, tokenizer, teacher, LOOP.seed, held_out, settings=wanted, prompt=prompt
    )
    train(tmp_path, stage, Squares(pictures), LOOP)
    return stage.student


def state_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)["modules"]["student"]


def bits_of(d=4):
    return torch.rand(2, SCHEDULE.num_tokens, d) > 0.5


def test_an_adapter_at_strength_0_with_the_causal_mask_is_the_teacher(networks):
    teacher, _ = networks
    student = student_on_teacher(teacher, 2, seed=3)
    for name, parameter in adapters_of(student).named_parameters():
        assert parameter.requires_grad, name
        torch.nn.init.normal_(parameter)
    merged = merge_adapter(teacher.state_dict(), adapters_of(student).state_dict(), strength=0.0)
    at_zero = load_transformer(merged)
    at_zero.config = teacher.config
    tokens, mask = pyramid_tokens(bits_of(), SCHEDULE, "short"), block_causal_mask(SCHEDULE)
    logits = at_zero(tokens, at_zero.encode_text(), SCHEDULE, mask=mask)
    assert torch.equal(logits, teacher(tokens, teacher.encode_text(), SCHEDULE, mask=mask))


def test_fresh_adapters_only_leave_out_the_bias_that_adapted_models_have_not(networks):
    teacher, _ = networks
    student = student_on_teacher(teacher, 2)
    tokens = pyramid_tokens(bits_of(), SCHEDULE, "long")
    before = teacher(tokens, teacher.encode_text(), SCHEDULE)
    logits = student(tokens, student.encode_text(), SCHEDULE)
    assert not torch.allclose(logits, before)
    for block in teacher.blocks:
        block.ca.v_bias.zero_()
    assert torch.equal(logits, teacher(tokens, teacher.encode_text(), SCHEDULE))


def test_teacher_and_student_are_the_same_memory(networks):
    teacher, _ = networks
    student = student_on_teacher(teacher, 2)
    shared = {p.data_ptr() for p in teacher.parameters()}
    for name, parameter in student.named_parameters():
        assert (parameter.data_ptr() in shared) != (".lora_" in name), name
        assert parameter.requires_grad == (".lora_" in name)
    assert trainable_parameters(student) == sum(
        p.numel() for p in adapters_of(student).parameters()
    )


def test_a_bfloat16_base_trains_float32_adapters(tmp_path, networks, pictures):
    teacher, tokenizer = networks
    half = load_transformer(teacher.state_dict(), dtype=torch.bfloat16)
    half.config = teacher.config
    before = {name: value.clone() for name, value in half.state_dict().items()}
    student = distil(tmp_path, (half, tokenizer), pictures, lora_rank=2)
    for name, parameter in student.named_parameters():
        if ".lora_" in name:
            assert parameter.dtype == torch.float32, name
        else:
            assert torch.equal(parameter, before[name.replace(".linear.", ".")]), name
    assert student.blocks[0].sa.mat_qkv.linear.weight.dtype == torch.bfloat16
    assert any(bool(v.any()) for k, v in state_of(tmp_path).items() if "lora_up" in k)


def test_the_state_of_adapters_is_adapters(tmp_path, networks, pictures):
    student = distil(tmp_path, networks, pictures, lora_rank=2)
    state = state_of(tmp_path)
    assert all(".lora_" in name for name in state)
    assert len(state) == 2 * 5 * len(student.blocks)
    for name, value in adapters_of(student).state_dict().items():
        assert torch.equal(value, state[name])


def test_saving_activations_changes_no_gradient(networks):
    teacher, tokenizer = networks
    tokens = pyramid_tokens(bits_of(), SCHEDULE, "long")
    gradients = []
    for forget in (False, True):
        student = student_on_teacher(teacher, 2, seed=1)
        torch.manual_seed(0)
        for module in adapters_of(student).parameters():
            torch.nn.init.normal_(module)
        if forget:
            save_activations(student)
            save_activations(tokenizer.decoder)
        logits = student(tokens, student.encode_text(), SCHEDULE)
        codes = logits[:, -256:, :, 1].transpose(1, 2).unflatten(2, (16, 16))
        tokenizer.decoder(codes).square().mean().backward()
        gradients.append([p.grad for p in adapters_of(student).parameters()])
    for plain, again in zip(*gradients, strict=True):
        assert float(plain.abs().sum()) > 0
        torch.testing.assert_close(plain, again)


def test_without_cross_scale_attention_the_finest_bits_of_the_input_do_not_matter(
    tmp_path, networks, pictures
):
    student = distil(tmp_path, networks, pictures, causal=True, lora_rank=2)
    bits = bits_of()
    other = bits.clone()
    start = SCHEDULE.spans[-1][0]
    other[:, start:] = ~other[:, start:]
    mask = block_causal_mask(SCHEDULE)
    answers = [
        student(pyramid_tokens(b, SCHEDULE, "short"), student.encode_text(), SCHEDULE, mask=mask)
        for b in (bits, other)
    ]
    assert torch.equal(*answers)


def test_a_prompt_takes_part(tmp_path, networks, pictures):
    teacher, _ = networks
    states = []
    for prompt in (None, torch.randn(1, 5, teacher.config.text_channels)):
        folder = tmp_path / str(len(states))
        distil(folder, networks, pictures, prompt, lora_rank=1)
        states.append(state_of(folder))
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_an_adversary_trains_beside_the_student_and_is_kept_in_its_state(
    tmp_path, networks, pictures
):
    for name, start in (("early", 0), ("late", 9)):
        distil(tmp_path / name, networks, pictures, adversarial=0.5, adversarial_from=start)
    early, late = (
        torch.load(tmp_path / name / "state.pt", weights_only=True)["modules"]
        for name in ("early", "late")
    )
    assert set(early) == {"student", "adversary"}
    differ = [
        name
        for name, value in early["student"].items()
        if not torch.equal(value, late["student"][name])
    ]
    assert differ


def test_losses_without_any_weight_are_refused():
    with pytest.raises(SettingError, match="at least one of them above 0"):
        StudentSettings(kl=0, mse=0, perceptual_weight=0, cross_entropy=0)
    with pytest.raises(SettingError, match="must be 0 or more"):
        dataclasses.replace(StudentSettings(), mse=-1)


def test_processes_average_their_gradients(tmp_path):
    module = torch.nn.Linear(2, 1)
    Processes(count=2, average=lambda gradient: gradient / 2).average_gradients(module)
    module(torch.ones(1, 2)).sum().backward()
    assert module.weight.grad.tolist() == [[0.5, 0.5]]
    assert Processes(index=1).folder(tmp_path) == tmp_path / "process-1"
    assert Processes().folder(tmp_path) == tmp_path


def test_accelerate_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    with pytest.raises(SettingError, match="pip install accelerate"):
        accelerate_processes()


@pytest.mark.parametrize("rank", [0, 2])
def test_a_student_without_cross_scale_attention_restores_without_it(
    tmp_path, micro_run, rank, caplog
):
    settings = micro_run(
        tmp_path, steps=dict.fromkeys(STAGES, 1), validation_pictures=1,
        student_settings=StudentSettings(batch=1, causal=True, lora_rank=rank),
    )  # fmt: skip
    for stage in ("tokenizer", "teacher", "student"):
        run_stage(stage, settings)
    paths = {path.name: path for path in run_export(settings, note="")}
    vae = paths["tiny_tokenizer.safetensors"]
    if rank:
        base, adapters = paths["tiny_base.safetensors"], [paths["tiny_adapter.safetensors"]]
        with pytest.raises(CheckpointError, match="used without cross-scale attention"):
            load_adapter(
                *read_checkpoint(adapters[0]), load_transformer(*read_checkpoint(base)).state_dict(),
                settings.transformer,
            )  # fmt: skip
    else:
        base, adapters = paths["tiny_transformer.safetensors"], []
    loaded = load_restorer(base, vae, adapters=adapters, device="cpu", dtype="fp32")
    transformer = loaded.stages.transformer
    assert not transformer.config.cross_scale
    assert "without cross-scale attention, as it was trained" in caplog.text
    bits = bits_of()
    other = bits.clone()
    start = SCHEDULE.spans[-1][0]
    other[:, start:] = ~other[:, start:]
    answers = [
        log_odds(
            transformer(
                pyramid_tokens(b, SCHEDULE, "long"), transformer.encode_text(), SCHEDULE, lq_bits=b
            )
        )[:, :start]
        for b in (bits, other)
    ]
    assert torch.equal(*answers)
