import pytest
import torch

from varestorer_core.cpu.attention import attention


def attend_plainly(q, k, v):
    q, k, v = (t.double() for t in (q, k, v))
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


@pytest.mark.parametrize("keys", [3, 64, 700])
@pytest.mark.parametrize("strength", [1.0, 12.0])
def test_bfloat16_on_a_cpu_is_as_close_as_its_own_rounding(keys, strength):
    q, k, v = (
        torch.randn(2, n, 3, 32).bfloat16().transpose(1, 2) for n in (600, keys, keys)
    )  # heads outside, as the block passes them
    k = k * strength
    with torch.inference_mode():
        out = attention(q, k, v)
    expected = attend_plainly(q, k, v)
    assert out.shape == (2, 3, 600, 32)
    assert (out - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("keys", [3, 64, 700])
@pytest.mark.parametrize("strength", [1.0, 12.0])
def test_float32_on_a_cpu_is_as_exact_as_pytorchs_own(keys, strength):
    q, k, v = (torch.randn(2, n, 3, 64).transpose(1, 2) for n in (600, keys, keys))
    k = k * strength
    with torch.inference_mode():
        out = attention(q, k, v)
        own = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    expected = attend_plainly(q, k, v)
    assert (out - expected).norm() < 2 * (own - expected).norm() + 1e-6 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_of_a_batch_do_not_meet(dtype):
    q, k, v = (torch.randn(2, 2, 520, 64).to(dtype) for _ in range(3))
    with torch.inference_mode():
        together = attention(q, k, v)
        assert torch.equal(together[1:], attention(q[1:], k[1:], v[1:]))


def test_gradients_pass():
    q, k, v = (torch.randn(1, 1, 520, 8).bfloat16().requires_grad_() for _ in range(3))
    attention(q, k, v).float().sum().backward()
    assert all(t.grad is not None for t in (q, k, v))


@pytest.mark.parametrize("score", [40.0, 88.0, 200.0, 1e4])
def test_a_key_far_above_all_others_is_not_lost(score):
    q, k, v = torch.ones(1, 1, 520, 64), torch.zeros(1, 1, 700, 64), 9 * torch.randn(1, 1, 700, 64)
    k[0, 0, 333] = score / 8  # times 64 columns, divided by the square root of 64
    q, k, v = q.bfloat16(), k.bfloat16(), v.bfloat16()
    with torch.inference_mode():
        out = attention(q, k, v)
    assert torch.allclose(out.float(), v[:, :, 333:334].float().expand_as(out), rtol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_of_one_picture_does_not_reach_another(dtype):
    """Within a picture it may spread: products with bfloat16 tiles of AMX also fill the row beside it."""
    q, k, v = (torch.randn(2, 1, 600, 64).to(dtype) for _ in range(3))
    with torch.inference_mode():
        expected = attention(q, k, v)
        q[0, 0, 7] = float("nan")
        out = attention(q, k, v)
    assert out[0, 0, 7].isnan().all()
    assert torch.equal(out[1], expected[1])
