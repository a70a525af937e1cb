"""Text conditioning in float32, for one prompt and for a padded batch, to 1e-5."""

import torch

from varestorer_core.models.masks import additive_mask

LIMIT = 1e-5


def test_text_conditioning(goldens, close):
    model = goldens.transformer()
    for match, expected in goldens.recorded("text", r"out\.(\w+)\.sos_cond\.fp32"):
        label, tensors = match[1], goldens.load("text")
        features, mask = goldens.texts("text", "in.kv_batch2" if label == "batch2" else "in.kv")
        context = model.encode_text(features, mask)
        normed = model.text_norm(features)
        close(f"{label}.cond", context.cond, expected, LIMIT)
        close(
            f"{label}.modulation",
            context.modulation.reshape(tensors[f"out.{label}.shared_ada.fp32"].shape),
            tensors[f"out.{label}.shared_ada.fp32"],
            LIMIT,
        )
        close(f"{label}.norm", normed[mask], tensors[f"out.{label}.text_norm"], LIMIT)
        source = model.text_proj_for_ca(normed)[mask]
        close(f"{label}.source", source, tensors[f"out.{label}.text_for_ca"], LIMIT)
        pooled = model.text_proj_for_sos(normed, additive_mask(mask))
        assert torch.equal(pooled, context.cond)
