"""Adding to the residual stream and its norm, in one pass or not, in place or not."""

import pytest
import torch

from varestorer_core.cpu import rows
from varestorer_core.cpu.residual import advance


@pytest.mark.parametrize("block", [1, 2**18])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("with_gate", [False, True])
@pytest.mark.parametrize("with_norm", [False, True])
def test_the_sum_and_its_norm(block, in_place, with_gate, with_norm, monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", block)
    x, change = torch.randn(2, 40, 8), torch.randn(2, 40, 8).bfloat16()
    gate = torch.randn(2, 1, 8)[:1] if with_gate else None
    expected = x + change.float() * (1 if gate is None else gate)
    kept = x.clone()
    with torch.no_grad():
        total, normal = advance(
            x, change, gate, torch.tanh if with_norm else None, in_place=in_place
        )
    assert torch.allclose(total, expected, atol=1e-6)
    assert torch.allclose(normal, expected.tanh() if with_norm else expected, atol=1e-6)
    assert (total.data_ptr() == x.data_ptr()) == in_place
    assert in_place or torch.equal(x, kept)


def test_gradients_pass():
    x, change = torch.randn(1, 4, 8, requires_grad=True), torch.randn(1, 4, 8, requires_grad=True)
    total, normal = advance(x, change, torch.ones(1, 1, 8), torch.tanh, in_place=False)
    (total + normal).sum().backward()
    assert x.grad is not None
    assert change.grad is not None
