"""Files bundled with the package: the tiny model, the demonstration picture, and data of metrics."""

from __future__ import annotations

from pathlib import Path

from .errors import VARestorerError

TINY_TRANSFORMER = "tiny_transformer.safetensors"
TINY_TOKENIZER = "tiny_tokenizer.safetensors"
TINY_TOKENIZER_CRISP = "tiny_tokenizer_crisp.safetensors"
CRISP = "crisp"
"""Name of the bundled tokenizer whose decoder makes crisp pictures."""
ADAPTERS = ("motion_blur", "heavy_jpeg", "rain", "low_light", "salt_and_pepper")
"""Names of the bundled adapters of the bundled transformer: the degradations that they were trained on."""
DEMO_ORIGINAL = "demo_original.png"
DEMO_LQ = "demo_lq.png"
NIQE_PARAMETERS = "niqe.safetensors"
PAPER_COMPARISON = "paper_comparison.csv"
BENCHMARK_PAGE = "benchmark.html"

_FOLDER = Path(__file__).parent / "assets"


def bundled_vae(vae: object) -> Path | None:
    """Return the bundled tokenizer that None or `CRISP` stands for; None for a file of the user's."""
    if vae is None:
        return asset_path(TINY_TOKENIZER)
    return asset_path(TINY_TOKENIZER_CRISP) if vae == CRISP else None


def adapter_file(name: str) -> str:
    """Return the file name of a bundled adapter, of `ADAPTERS`."""
    return f"tiny_adapter_{name}.safetensors"


def bundled_adapter(adapter: object) -> Path | None:
    """Return the bundled adapter of a name in `ADAPTERS`; None for a file of the user's."""
    return asset_path(adapter_file(str(adapter))) if adapter in ADAPTERS else None


def asset_path(name: str) -> Path:
    """Return the path of a bundled file.

    Raises:
        VARestorerError: if the installation lacks it.
    """
    path = _FOLDER / name
    if not path.is_file():
        raise VARestorerError(
            f"The bundled file {path} is missing, so the installation is incomplete. "
            "Install the package again."
        )
    return path
