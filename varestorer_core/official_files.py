"""The official files: their names, their addresses, and their folders in ComfyUI.

Hints, loaders and workflow templates are generated from this table.
"""

from __future__ import annotations

from dataclasses import dataclass

_SITE = "huggingface.co"


@dataclass(frozen=True)
class OfficialFile:
    """A published weights file."""

    name: str
    """File name in its repository."""
    repository: str
    """owner/name on Hugging Face."""
    folder: str
    """Folder under ComfyUI's models folder."""
    subfolder: str = ""
    """Folder inside the repository."""
    title: str = ""
    """Common name, if it is not the file's name."""
    markers: tuple[str, ...] = ()
    """Lower-case parts of a file name by which a renamed or converted copy is recognised."""

    @property
    def url(self) -> str:
        """Address for a download."""
        path = f"{self.subfolder}/{self.name}" if self.subfolder else self.name
        return f"https://{_SITE}/{self.repository}/resolve/main/{path}"

    @property
    def source(self) -> str:
        """Name and repository, for use in a sentence."""
        return f"{self.title or self.name} from {_SITE}/{self.repository}"


_INFINITY = "FoundationVision/Infinity"


def _tokenizer(bits: str) -> OfficialFile:
    name = f"infinity_vae_{bits}"
    return OfficialFile(f"{name}.pth", _INFINITY, "vae", markers=(name,))


VARESTORER = OfficialFile(
    "varestorer.pth",
    "EvanEternal/VARestorer",
    "diffusion_models",
    subfolder="weights",
    markers=("varestorer",),
)
"""The released restorer: Infinity-2B with its rank-32 adapter."""
INFINITY_2B = OfficialFile(
    "infinity_2b_reg.pth", _INFINITY, "diffusion_models", markers=("infinity_2b",)
)
"""The model that VARestorer was distilled from; generates from text."""
INFINITY_125M = OfficialFile(
    "infinity_125M_256x256.pth", _INFINITY, "diffusion_models", markers=("infinity_125m",)
)
"""The small model for 256 x 256 pixels, used with a tokenizer of 16 bits."""
TOKENIZER = _tokenizer("d32reg")
"""The visual tokenizer of VARestorer and Infinity-2B."""
FLAN_T5_XL = OfficialFile(
    "model-00001-of-00002.safetensors",
    "google/flan-t5-xl",
    "text_encoders",
    title="flan-t5-xl",
    markers=("flan-t5-xl", "flan_t5_xl", "t5xl", "t5-xl"),
)
"""The text encoder, in two parts; only prompts need it."""
CLEANER = OfficialFile(
    "general_swinir_v1.ckpt", "lxq007/DiffBIR", "upscale_models", markers=("general_swinir",)
)
"""DiffBIR's SwinIR, which preprocesses the official model's input."""

# A longer marker takes precedence over a shorter one that it contains.
_FILES = (
    VARESTORER,
    INFINITY_2B,
    INFINITY_125M,
    TOKENIZER,
    *map(_tokenizer, ("d16", "d24", "d32", "d64")),
    FLAN_T5_XL,
    CLEANER,
)


def official_file(name: str) -> OfficialFile | None:
    """Return the official file that a file name refers to, or None.

    Args:
        name: a file name or a path. Case, folders and the extension are ignored.
    """
    stem = name.replace("\\", "/").lower()
    found = [(len(marker), file) for file in _FILES for marker in file.markers if marker in stem]
    return max(found, key=lambda pair: pair[0])[1] if found else None
