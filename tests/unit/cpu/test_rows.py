import pytest
import torch
import torch.nn.functional as F

from varestorer_core.cpu.block import _gelu, _rotate
from varestorer_core.cpu.rows import by_rows, by_rows_of_layers, overwrite_by_rows
from varestorer_core.models.rope import apply_rope


@pytest.fixture
def bf16_products(monkeypatch):
    """Treat this processor as one with bfloat16 instructions."""
    monkeypatch.setattr("varestorer_core.cpu.rows.multiplies", lambda dtype: True)


def test_blocks_give_what_the_whole_gives():
    x, y = torch.randn(2, 700, 512), torch.randn(1, 700, 1)
    sizes = []

    def work(part, other):
        sizes.append(part.shape[1])
        return (part * other).bfloat16()

    with torch.inference_mode():
        out = by_rows(work, x, y)
    assert torch.equal(out, (x * y).bfloat16())
    assert len(sizes) > 1
    assert sum(sizes) == 700


def test_gradients_are_recorded_over_all_rows_at_once():
    x = torch.randn(1, 3000, 512, requires_grad=True)
    by_rows(lambda part: part * 2, x).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))


def test_several_results_are_joined_each(bf16_products):
    x = torch.randn(2, 1000, 8)
    seen = []

    def work(part):
        seen.append(part.shape[1])
        return part * 2, part[..., 0].bfloat16()

    with torch.inference_mode():
        double, first = by_rows_of_layers(work, x, dtype=torch.bfloat16)
    assert torch.equal(double, x * 2)
    assert torch.equal(first, x[..., 0].bfloat16())
    assert len(seen) > 1


def test_overwriting_gives_what_the_whole_gives():
    x, y = torch.randn(2, 700, 2, 256), torch.randn(1, 700, 1, 1)
    expected = x * y
    with torch.inference_mode():
        overwrite_by_rows(lambda part, other: part * other, x[:, :, :1], y)
    assert torch.equal(x[:, :, 0], expected[:, :, 0])
    assert not torch.equal(x[:, :, 1], expected[:, :, 1])


def test_memory_is_used_again_where_it_fits(bf16_products):
    x, kept = torch.randn(1, 1000, 8), []

    def work(part):
        return part * 2, part.bfloat16()

    with torch.inference_mode():
        first = by_rows_of_layers(work, x, dtype=torch.bfloat16, into=kept)
        second = by_rows_of_layers(work, x + 1, dtype=torch.bfloat16, into=kept)
        assert [t.data_ptr() for t in first] == [t.data_ptr() for t in second]
        assert torch.equal(second[0], (x + 1) * 2)
        shorter = by_rows_of_layers(work, x[:, :600], dtype=torch.bfloat16, into=kept)
    assert torch.equal(shorter[0], x[:, :600] * 2)
    assert torch.equal(second[0], (x + 1) * 2)


@pytest.mark.parametrize(("dtype", "multiplies"), [(torch.float32, True), (torch.bfloat16, False)])
def test_layers_that_convert_their_weights_are_called_once(monkeypatch, dtype, multiplies):
    monkeypatch.setattr("varestorer_core.cpu.rows.multiplies", lambda dtype: multiplies)
    calls = []

    def work(part):
        calls.append(part.shape[1])
        return part

    with torch.inference_mode():
        by_rows_of_layers(work, torch.randn(1, 5000, 4), dtype=dtype)
    assert calls == [5000]


def test_gelu_by_the_logistic_function_is_the_tanh_gelu():
    x = torch.linspace(-12, 12, 4001)
    with torch.inference_mode():
        assert torch.allclose(_gelu(x), F.gelu(x, approximate="tanh"), atol=1e-6)
        half = x.bfloat16()
        expected = F.gelu(half.float(), approximate="tanh")
        assert torch.allclose(_gelu(half).float(), expected, rtol=2**-8, atol=1e-6)


def test_turning_in_one_pass_equals_turning_pair_by_pair():
    x, angle = torch.randn(2, 7, 3, 8), torch.randn(1, 7, 1, 4)
    length = torch.tensor([[2.0], [3.0], [4.0]])
    expected = F.normalize(x, dim=-1) * length
    expected = apply_rope(expected, angle.cos(), angle.sin())
    with torch.no_grad():
        assert torch.allclose(_rotate(x, length, angle.cos(), angle.sin()), expected, atol=1e-6)
