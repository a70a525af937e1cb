import torch

from varestorer_core.models.block import modulate
from varestorer_core.models.rows import by_rows


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


def test_one_prompt_and_a_prompt_each_modulate_alike():
    x, scale, shift = torch.randn(3, 5, 16), torch.randn(1, 1, 16), torch.randn(1, 1, 16)
    each = modulate(x, scale.expand(3, -1, -1), shift.expand(3, -1, -1))
    assert torch.allclose(modulate(x, scale, shift), each, atol=1e-6)
