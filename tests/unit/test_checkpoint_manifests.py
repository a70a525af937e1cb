"""All keys compared with the full-size manifests of the official files, without memory."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from varestorer_core.checkpoint import identify
from varestorer_core.checkpoint.check import expected_parameters, key_problems
from varestorer_core.checkpoint.keys import rename_tensors
from varestorer_core.config import INFINITY_VAE_D32, VARESTORER_2B
from varestorer_core.lora.factors import low_ranks, split_adapter

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT.parent / "shared" / "reference" / "manifests"
pytestmark = pytest.mark.skipif(
    not MANIFESTS.is_dir(), reason=f"the manifests of the official files are not at {MANIFESTS}"
)


def manifest(name):
    return json.loads((MANIFESTS / f"{name}.json").read_text())


def state_dict(name):
    """Return the official state dict on the meta device."""
    return {
        key: torch.empty(entry[0], dtype=getattr(torch, entry[1]), device="meta")
        for key, entry in manifest(name)["keys"].items()
    }


@pytest.mark.parametrize(
    ("name", "layout", "rank", "parameters", "lora"),
    [
        ("varestorer_2b_lora32", "chunked+lora", 32, 2_231_827_008, 27_262_976),
        ("varestorer_2b_nolora", "chunked", 0, 2_204_564_032, 0),
        ("infinity_2b_teacher", "chunked", 0, 2_204_564_032, 0),
    ],
)
def test_transformer(name, layout, rank, parameters, lora):
    tensors = state_dict(name)
    info = identify(tensors)
    assert (info.kind, info.layout, info.problems) == ("transformer", layout, ())
    assert info.config == replace(VARESTORER_2B, lora_rank=rank)
    assert info.counts.tensors == manifest(name)["_meta"]["n_keys"]
    assert (info.counts.parameters, info.counts.lora) == (parameters, lora)
    ours = rename_tensors(tensors, "transformer")
    assert key_problems(ours, expected_parameters(info.config)) == []
    base, adapter = split_adapter(ours)
    assert key_problems(base, expected_parameters(replace(info.config, lora_rank=0))) == []
    assert len(low_ranks(base, adapter)) == (160 if rank else 0)


@pytest.mark.parametrize("spelling", [0, 1], ids=["module", "flat"])
def test_tokenizer_in_both_spellings(spelling):
    keys = manifest("vae_d32_checkpoint_names")["keys"]
    tensors = {
        (names[spelling] if len(names) > 1 else names[0]): torch.empty(
            shape, dtype=getattr(torch, dtype), device="meta"
        )
        for shape, dtype, names in keys.values()
    }
    info = identify(tensors)
    assert (info.kind, info.layout) == ("tokenizer", ("module", "flat")[spelling])
    assert info.config == INFINITY_VAE_D32
    assert info.problems == ()
    assert info.counts.parameters == 110_118_051
    ours = rename_tensors(tensors, "tokenizer")
    assert key_problems(ours, expected_parameters(info.config)) == []
    sizes = {"encoder": 0, "decoder": 0}
    for name, tensor in ours.items():
        sizes[name.partition(".")[0]] += tensor.numel()
    assert sizes == {"encoder": 45_025_696, "decoder": 65_092_355}


def test_cleaner():
    info = identify(state_dict("swinir_general_v1"))
    assert (info.kind, info.problems) == ("cleaner", ())
    assert info.counts.parameters == 15_792_587
    assert info.counts.tensors == 732
    assert info.details == {"width": 180}


def test_full_size_maker_has_the_official_names():
    path = ROOT / "benchmarks" / "make_full_size.py"
    spec = importlib.util.spec_from_file_location("make_full_size", path)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    for shapes, name in (
        (maker.official_transformer_shapes(VARESTORER_2B), "varestorer_2b_lora32"),
        (maker.official_tokenizer_shapes(INFINITY_VAE_D32), "vae_d32"),
    ):
        truth = {
            key: tuple(entry[0])
            for key, entry in manifest(name)["keys"].items()
            if not key.endswith("lfq.mask")
        }
        assert shapes == truth
