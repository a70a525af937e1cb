"""Logits of the one-step student and of the teacher-forced pass.

Float32 within max 3e-4 and rms 3e-6. The release rounds cross-attention to bfloat16 even on a CPU;
with that rounding put into the injected attention function, its own numbers are met as well. Our
bfloat16 mode is held against the recorded emulation of a GPU run.
"""

import pytest
import torch

from varestorer_core.models.attention import attention
from varestorer_core.models.masks import block_causal_mask

MAX, RMS = 3e-4, 3e-6
NAME = r"out\.(?P<label>\w+)\.(?P<kind>[\w.]+)\.logits\.{}"


def rounded_cross_attention(rows):
    """Return an attention function that rounds to bfloat16 where keys are `rows` text tokens."""

    def attend(q, k, v, mask=None):
        if k.shape[2] != rows:
            return attention(q, k, v, mask)
        q, k, v = (t.bfloat16().float() for t in (q, k, v))
        return attention(q, k, v, mask).bfloat16().float()

    return attend


def logits(goldens, match, models):
    """Run the case that a recorded name describes and return (B, L, 2 d)."""
    label, kind, tensors = match["label"], match["kind"].split("."), goldens.load("forward")
    schedule = goldens.schedule(label)
    batch2 = "batch2" in kind
    tokens = tensors[f"in.x_long.{label}{'_batch2' if batch2 else ''}"]
    model = models("nolora_teacher_mask" not in kind)
    if batch2:
        text = goldens.texts("forward", "in.kv_batch2")
    elif "cond_dropped" in kind:
        text = (model.cfg_uncond[None, : len(tensors["in.kv"])], None)
    else:
        text = goldens.texts("forward")
    mask = None
    if kind[0] != "long":
        tokens = tokens[:, : schedule.num_tokens - 1]
        mask = block_causal_mask(schedule) if kind[0].endswith("teacher_mask") else None
    return model(tokens, model.encode_text(*text), schedule, mask=mask).flatten(2)


@pytest.fixture(scope="module")
def models(goldens):
    loaded = {}

    def get(adapters):
        if adapters not in loaded:
            loaded[adapters] = goldens.transformer(adapters=adapters)
        return loaded[adapters]

    return get


def test_float32(goldens, models, close):
    for match, expected in goldens.recorded("forward", NAME.format("fp32")):
        close(match[0], logits(goldens, match, models), expected, MAX, RMS)


def test_merged_adapters(goldens, close):
    merged = goldens.transformer(merge=True)
    for match, expected in goldens.recorded("forward", NAME.format("fp32")):
        if "nolora" not in match["kind"]:
            actual = logits(goldens, match, lambda adapters: merged)
            close(match[0], actual, expected, MAX, 2 * RMS)


def test_token_stream(goldens, models, close):
    model = models(True)
    for match, expected in goldens.recorded("forward", r"out\.(\w+)\.long\.block_input"):
        text = model.encode_text(*goldens.texts("forward"))
        tokens = goldens.load("forward")[f"in.x_long.{match[1]}"]
        close(match[0], model.embed(tokens, text, goldens.schedule(match[1])), expected, 1e-5)


DRAWS = 8


@pytest.fixture(scope="module")
def rounding(goldens):
    """Return a function: of a recorded case, the logits of an emulated rounding and this machine's own noise in them.

    A difference in the last bit of a float32, which another BLAS makes, carries some values across a boundary
    between two bfloat16 numbers, and each of them then differs by a whole step. How much that is in the logits is
    measured: by the same network on inputs that differ by 1e-7 of their size.
    """
    loaded = {}

    def run(match, attend):
        batch2 = "batch2" in match["kind"]
        tensors = goldens.load("forward")
        rows = max(goldens.config["batch_lens"]) if batch2 else len(tensors["in.kv"])

        def models(adapters):
            key = adapters, rows, attend
            if key not in loaded:
                loaded[key] = goldens.transformer(adapters, attention=attend(rows))
            return loaded[key]

        return logits(goldens, match, models)

    def noise(match, monkeypatch):
        inputs = {k: t for k, t in goldens.load("forward").items() if k.startswith("in.")}
        own, generator = run(match, rounded_cross_attention), torch.Generator().manual_seed(0)
        floors = []
        for _ in range(DRAWS):
            for key, tensor in inputs.items():
                shift = torch.randn(tensor.shape, generator=generator) * 1e-7
                monkeypatch.setitem(goldens.load("forward"), key, tensor * (1 + shift))
            floors.append(rms_between(run(match, rounded_cross_attention), own))
        monkeypatch.undo()
        return max(floors)

    return run, noise


def rms_between(actual, expected):
    return (actual.double() - expected.double()).square().mean().sqrt().item()


def small_cases(goldens):
    """Return the recorded cases of roundings that are quick to run many times."""
    return [
        case for case in goldens.recorded("forward", NAME.format("bf16")) if "small" in case[0][0]
    ]


def test_release_rounding(goldens, rounding, monkeypatch, record_property):
    run, noise = rounding
    for match, expected in small_cases(goldens):
        actual, limit = run(match, rounded_cross_attention), 2 * noise(match, monkeypatch)
        difference = rms_between(actual, expected)
        record_property(match[0], f"rms {difference:.2e}, limit {limit:.2e}")
        assert difference <= limit, f"{match[0]}: rms {difference:.3g} (limit {limit:.3g})"


def wrongly_rounded(place):
    """Return attention functions as of `rounded_cross_attention`, with one rounding left out or one more."""

    def of(rows):
        def attend(q, k, v, mask=None):
            text = k.shape[2] == rows
            if not text and place != "self-attention too":
                return attention(q, k, v, mask)
            if place != "nothing":
                q, k = q.bfloat16().float(), k.bfloat16().float()
                v = v if place == "all but the values" else v.bfloat16().float()
            out = attention(q, k, v, mask)
            return out if place in ("all but the result", "nothing") else out.bfloat16().float()

        return attend

    return of


@pytest.mark.parametrize(
    "place", ["nothing", "all but the values", "all but the result", "self-attention too"]
)
def test_rounding_at_another_place_is_seen(goldens, rounding, monkeypatch, place):
    run, noise = rounding
    match, expected = next(c for c in small_cases(goldens) if "batch2" not in c[0]["kind"])
    assert rms_between(run(match, wrongly_rounded(place)), expected) > 2 * noise(match, monkeypatch)


def test_bfloat16_mode(goldens, close):
    cases = goldens.recorded("forward", NAME.format("autocast_bf16"))
    model = goldens.transformer(dtype=torch.bfloat16)
    for match, expected in cases:
        close(match[0], logits(goldens, match, lambda adapters: model), expected, 0.5, 3e-2)
