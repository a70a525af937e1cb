import pytest
import torch
import torch.nn.functional as F
from torch import nn

from varestorer_core.cpu import fused, onednn
from varestorer_core.cpu.fused import FastLayers, fused_linear
from varestorer_core.lora.layer import LoRALinear

needs_operator = pytest.mark.skipif(
    not onednn.multiplies(torch.bfloat16),
    reason="this processor or PyTorch has no fused bfloat16 layers",
)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def layer(bias=True):
    torch.manual_seed(0)
    return nn.Linear(96, 160, bias=bias, dtype=torch.bfloat16)


def inputs():
    torch.manual_seed(1)
    return torch.randn(2, 7, 96, dtype=torch.bfloat16)


def exact(module, x, bias=None, gelu=False):
    """Return the result of the layer computed in float32 and rounded once."""
    own = None if module.bias is None else module.bias.float()
    out = F.linear(x.float(), module.weight.float(), own)
    out = out if bias is None else out + bias
    return F.gelu(out, approximate="tanh") if gelu else out


@needs_operator
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_all_in_one_pass_is_rounded_once(own, bias, gelu):
    module, x = layer(own), inputs()
    extra = torch.linspace(-1, 1, 160) if bias else None
    out, is_complete = fused_linear(module, x, bias=extra, gelu=gelu)
    assert is_complete
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), exact(module, x, extra, gelu), rtol=2**-8, atol=1e-5)


@pytest.mark.skipif(not onednn.multiplies(torch.float32), reason="this PyTorch has no such layers")
def test_float32_is_as_exact_as_before():
    module, x = layer().float(), inputs().float()
    out, is_complete = fused_linear(module, x, bias=torch.ones(160), gelu=True)
    assert is_complete
    expected = F.gelu(module.double()(x.double()) + 1, approximate="tanh")
    assert torch.allclose(out.double(), expected, atol=1e-6)


@needs_operator
def test_a_layer_that_prepares_its_weights_at_each_call_is_fused_too():
    class Host(nn.Linear):
        def forward(self, x):
            weight = (self.weight * 2).to(x.dtype)
            return torch.nn.functional.linear(x, weight, None)

    module = Host(96, 160)
    out, is_complete = fused_linear(module, inputs(), gelu=True)
    assert is_complete
    doubled = F.linear(inputs().float(), (module.weight * 2).bfloat16().float())
    expected = F.gelu(doubled, approximate="tanh")
    assert torch.allclose(out.float(), expected, rtol=2**-8, atol=1e-5)


@needs_operator
def test_what_follows_a_product_is_never_done_behind_the_activation():
    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    class Twice(nn.Linear):
        def forward(self, x):
            return super().forward(super().forward(x))

    for module in (Shifted(96, 160, dtype=torch.bfloat16), Twice(96, 96, dtype=torch.bfloat16)):
        out, is_complete = fused_linear(module, inputs(), gelu=True)
        assert not is_complete
        assert torch.equal(out, module(inputs()))


@pytest.mark.parametrize("kind", ["adapter", "replaced", "own product"])
def test_a_layer_that_cannot_be_fused_runs_once(kind):
    calls = []

    class Quantised(nn.Linear):
        def forward(self, x):
            calls.append(1)
            return x @ self.weight.T.to(x.dtype)

    module = Quantised(96, 160)
    if kind == "adapter":
        module = LoRALinear(96, 160, True, 4, dtype=torch.bfloat16)
        module.linear.register_forward_hook(lambda *_: calls.append(1))
    if kind == "replaced":
        module, plain = layer(), layer()
        module.forward = lambda x: calls.append(1) or plain(x) + 1
    expected = module(inputs())
    calls.clear()
    out, is_complete = fused_linear(module, inputs(), bias=torch.ones(160), gelu=True)
    assert not is_complete
    assert torch.equal(out, expected)
    assert calls == [1]


@pytest.mark.parametrize("case", ["float16", "weights", "slice", "gradient", "empty", "operator"])
def test_anything_else_runs_as_it_is(case, monkeypatch):
    module, x = layer(), inputs()
    if case == "float16":
        module, x = module.half(), x.half()
    if case == "weights":
        module.weight = nn.Parameter(torch.randn(96, 160, dtype=torch.bfloat16).T)
    if case == "slice":
        x = inputs()[:, ::2]
    if case == "empty":
        x = x[:0]
    if case == "operator":
        monkeypatch.setattr(onednn, "multiplies", lambda dtype: False)
    with torch.inference_mode(case != "gradient"), torch.set_grad_enabled(case == "gradient"):
        out, is_complete = fused_linear(module, x, gelu=True)
        assert not is_complete
        assert torch.equal(out, module(x))


def test_networks_of_others_get_fast_layers():
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
    layouts = []
    conv.register_forward_hook(
        lambda _module, _args, out: layouts.append(
            out.is_contiguous(memory_format=torch.channels_last)
        )
    )
    x = torch.randn(2, 3, 6, 7)

    def network():
        return linear(conv(x).permute(0, 2, 3, 1))

    expected = network()
    with FastLayers():
        result = network()
        assert conv(x[0]).shape == (8, 6, 7)  # without a batch there is no such layout
    assert layouts[:2] == [False, True]
    assert torch.allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"padding": 1},
        {"padding": (2, 0), "stride": (1, 3)},
        {"padding": "same"},
        {"padding": "valid", "dilation": 2},
        {"padding": "same", "dilation": (1, 2), "bias": False},
    ],
)
def test_a_watched_convolution_has_the_right_shape(options):
    """What a layer does with the result must not fail before it is noticed."""
    conv = torch.nn.Conv2d(4, 6, (3, 5), **options)
    for x in (torch.zeros(2, 4, 19, 23), torch.zeros(4, 19, 23)):
        watched = fused._Watched(F.conv2d, fused._convolved_shape)
        with watched:
            found = conv(x)
        assert found.shape == conv(x).shape
        assert watched.is_all_of(found)
