"""From a file name to the repository that publishes the file."""

import pytest

from varestorer_core.official_files import CLEANER, FLAN_T5_XL, VARESTORER, official_file


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("varestorer.pth", "EvanEternal/VARestorer"),
        ("old/VARestorer-bf16.safetensors", "EvanEternal/VARestorer"),
        ("infinity_2b_reg.pth", "FoundationVision/Infinity"),
        ("infinity_125M_256x256.pth", "FoundationVision/Infinity"),
        ("general_swinir_v1.ckpt", "lxq007/DiffBIR"),
        ("flan-t5-xl\\model.safetensors", "google/flan-t5-xl"),
    ],
)
def test_a_name_leads_to_its_repository(name, repository):
    assert official_file(name).repository == repository


@pytest.mark.parametrize("bits", ["d16", "d24", "d32", "d32reg", "d64"])
def test_every_tokenizer_is_told_from_the_others(bits):
    assert official_file(f"infinity_vae_{bits}.safetensors").name == f"infinity_vae_{bits}.pth"


def test_an_unknown_name_leads_nowhere():
    assert official_file("sdxl.safetensors") is None


def test_addresses_end_with_the_file():
    for file in (VARESTORER, CLEANER, FLAN_T5_XL):
        assert file.url.startswith(f"https://huggingface.co/{file.repository}/resolve/main/")
        assert file.url.endswith(f"/{file.name}")
        assert file.source.endswith(f"huggingface.co/{file.repository}")
