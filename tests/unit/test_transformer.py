import dataclasses

import pytest
import torch

from varestorer_core.errors import CheckpointError
from varestorer_core.models.adaptive_norm import modulate
from varestorer_core.models.attention import attention
from varestorer_core.models.bsq import pyramid_tokens
from varestorer_core.models.masks import block_causal_mask
from varestorer_core.models.rope import apply_rope
from varestorer_core.models.text_conditioning import TextContext
from varestorer_core.models.transformer import VARTransformer
from varestorer_core.schedule import get_schedule

SCHEDULE = get_schedule(1.0, "0.06M")


def random_bits(model, batch=1):
    return torch.rand(batch, SCHEDULE.num_tokens, model.config.codebook_dim) < 0.5


def test_attention_is_the_textbook_formula():
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    mask = torch.zeros(1, 1, 5, 7)
    mask[..., 4:] = float("-inf")
    weights = (q @ k.transpose(-1, -2) * 8**-0.5 + mask).softmax(-1)
    assert torch.allclose(attention(q, k, v, mask), weights @ v, atol=1e-6)


def test_logits_have_a_pair_per_bit(make_transformer):
    model = make_transformer()
    bits = random_bits(model, 2)
    logits = model(pyramid_tokens(bits, SCHEDULE), model.encode_text(), SCHEDULE)
    assert logits.shape == (2, SCHEDULE.num_tokens, 6, 2)
    assert torch.isfinite(logits).all()


def test_a_picture_does_not_see_its_neighbours_in_the_batch(make_transformer):
    model = make_transformer()
    bits, text = random_bits(model, 3), model.encode_text()
    together = model(pyramid_tokens(bits, SCHEDULE), text, SCHEDULE)
    for i in range(3):
        alone = model(pyramid_tokens(bits[i : i + 1], SCHEDULE), text, SCHEDULE)
        assert torch.allclose(together[i : i + 1], alone, atol=1e-4)


def test_the_teacher_sees_no_later_scale_and_the_student_does(make_transformer):
    model = make_transformer()
    bits, text = random_bits(model), model.encode_text()
    changed = bits.clone()
    start, _ = SCHEDULE.spans[-2]
    changed[:, start:] = ~changed[:, start:]

    def first_scales(bits, mask):
        tokens = pyramid_tokens(bits, SCHEDULE, "short")
        return model(tokens, text, SCHEDULE, mask=mask)[:, :start]

    mask = block_causal_mask(SCHEDULE)
    assert torch.allclose(first_scales(bits, mask), first_scales(changed, mask), atol=1e-5)
    assert not torch.allclose(first_scales(bits, None), first_scales(changed, None), atol=1e-3)


def test_a_student_without_cross_scale_attention_works_like_the_teacher(make_transformer):
    model = make_transformer(cross_scale=False)
    bits, text = random_bits(model), model.encode_text()
    long = model(pyramid_tokens(bits, SCHEDULE, "long"), text, SCHEDULE)
    model.config = dataclasses.replace(model.config, cross_scale=True)
    short = pyramid_tokens(bits, SCHEDULE, "short")
    assert torch.equal(long, model(short, text, SCHEDULE, mask=block_causal_mask(SCHEDULE)))


def test_padding_of_a_prompt_changes_nothing(make_transformer):
    model = make_transformer()
    bits, features = random_bits(model), torch.randn(1, 3, 16)
    padded = torch.cat([features, torch.randn(1, 2, 16)], dim=1)
    mask = torch.tensor([[True] * 3 + [False] * 2])
    tokens = pyramid_tokens(bits, SCHEDULE)
    plain = model(tokens, model.encode_text(features), SCHEDULE)
    masked = model(tokens, model.encode_text(padded, mask), SCHEDULE)
    assert torch.allclose(plain, masked, atol=1e-4)


def test_text_is_never_changed_in_place(make_transformer):
    model = make_transformer()
    features = torch.randn(1, 3, 16)
    before = features.clone()
    for _ in range(30):
        model.encode_text(features)
    assert torch.equal(features, before)


def test_prior_moves_logits_towards_the_lq_bits(make_transformer):
    model = make_transformer(lq_prior=True)
    bits, text = random_bits(model), model.encode_text()
    tokens = pyramid_tokens(bits, SCHEDULE)
    model.lq_prior.zero_()
    without = model(tokens, text, SCHEDULE, lq_bits=bits)
    model.lq_prior.fill_(2.0)
    moved = model(tokens, text, SCHEDULE, lq_bits=bits) - without
    gap = moved[..., 1] - moved[..., 0]
    assert torch.allclose(gap, torch.where(bits, 2.0, -2.0), atol=1e-4)
    with pytest.raises(ValueError, match="lq_bits"):
        model(tokens, text, SCHEDULE)


def test_wrong_inputs_are_refused_before_any_work(make_transformer):
    model = make_transformer()
    text = model.encode_text()
    with pytest.raises(ValueError, match="bits per token"):
        model(torch.zeros(1, SCHEDULE.num_tokens - 1, 5), text, SCHEDULE)
    with pytest.raises(ValueError, match="This schedule has"):
        model(torch.zeros(1, 7, 6), text, SCHEDULE)
    with pytest.raises(ValueError, match="Text features must be"):
        model.encode_text(torch.zeros(1, 3, 17))
    with pytest.raises(ValueError, match="at least one text token"):
        model.encode_text(torch.zeros(1, 3, 16), torch.zeros(1, 3, dtype=torch.bool))


def test_the_lq_code_map_may_have_the_rotary_rows_of_the_finest_scale(make_transformer):
    released, own = make_transformer(), make_transformer(lq_rows="own")
    own.load_state_dict(released.state_dict())
    device, length = torch.device("cpu"), SCHEDULE.num_tokens
    start, stop = SCHEDULE.spans[-1]
    for step in range(2):
        table = own.rope(SCHEDULE, 0, SCHEDULE.num_tokens_long, device)[step]
        usual = released.rope(SCHEDULE, 0, SCHEDULE.num_tokens_long, device)[step]
        assert torch.equal(table[:length], usual[:length])
        assert torch.equal(table[length:], usual[start:stop])
        # A sequence that begins with the code map gets the same rows as one that ends with it.
        alone = own.rope(SCHEDULE, length, SCHEDULE.sizes[-1], device)[step]
        assert torch.equal(alone, table[length:])
    bits = random_bits(released)
    for variant, same in (("short", True), ("long", False)):
        tokens = pyramid_tokens(bits, SCHEDULE, variant)
        answers = [model(tokens, model.encode_text(), SCHEDULE) for model in (released, own)]
        assert torch.equal(*answers) == same
    largest = get_schedule(1.0, "1M")
    assert len(own.rope(largest, 0, largest.num_tokens_long, device)[0]) == largest.num_tokens_long
    with pytest.raises(CheckpointError, match="lq_rows must be next or own, got 'other'"):
        make_transformer(lq_rows="other")


def test_the_code_map_of_the_largest_class_has_its_own_rotary_rows(make_transformer):
    """There is no next scale whose rows it could use."""
    model, device = make_transformer(), torch.device("cpu")
    largest = get_schedule(1.0, "1M")
    cells = largest.sizes[-1]
    for table in model.rope(largest, 0, largest.num_tokens_long, device):
        assert torch.equal(table[-cells:], table[-2 * cells : -cells])
    with pytest.raises(ValueError, match="rows"):
        model.rope(largest, 0, largest.num_tokens_long + 1, device)


def test_only_matrices_of_blocks_change_their_type(make_transformer):
    config = make_transformer().config
    model = VARTransformer(config, dtype=torch.bfloat16, device="meta")
    for name, parameter in model.named_parameters():
        matrix = ".mat_" in name or ".proj." in name or ".fc" in name
        expected = torch.bfloat16 if name.startswith("blocks.") and matrix else torch.float32
        assert parameter.dtype == expected, name


def test_contexts_expand_without_copies_and_repeat_in_order():
    context = TextContext(torch.randn(2, 4), torch.randn(2, 1, 6, 4), [])
    assert torch.equal(context.repeat_each(2).cond[1], context.cond[0])
    with pytest.raises(ValueError, match="one prompt"):
        context.expand(3)


@pytest.mark.parametrize("masked", [False, True])
def test_rows_that_are_not_wanted_change_nothing(make_transformer, masked):
    model = make_transformer()
    x, text = torch.randn(2, 9, 32), model.encode_text().expand(2)
    rope = model.rope(SCHEDULE, 0, 9, x.device)
    mask = torch.randn(1, 1, 9, 9) if masked else None
    block = model.blocks[0]
    with torch.no_grad():
        whole = block(x, text.blocks[0], rope, mask=mask)
        part = block(x, text.blocks[0], rope, mask=mask, num_queries=4)
    assert torch.allclose(part, whole[:, :4], atol=1e-6)


def test_one_prompt_and_a_prompt_each_modulate_alike():
    x, scale, shift = torch.randn(3, 5, 16), torch.randn(1, 1, 16), torch.randn(1, 1, 16)
    each = modulate(x, scale.expand(3, -1, -1), shift.expand(3, -1, -1))
    assert torch.allclose(modulate(x, scale, shift), each, atol=1e-6)


def test_the_rotation_that_compilers_and_other_devices_run_is_the_same(monkeypatch):
    x, angle = torch.randn(2, 7, 3, 8), torch.randn(1, 7, 1, 4)
    turned = apply_rope(x, angle.cos(), angle.sin())
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.allclose(apply_rope(x, angle.cos(), angle.sin()), turned, atol=1e-6)
