"""VARestorer: one-step real-world image super-resolution with a visual autoregressive model.

The public names are loaded at first use, so that importing the package does not import torch.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # the command starts here, and is quiet on Ctrl-C only after its first imports
    from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CheckpointError": "errors",
    "ImageError": "errors",
    "RestoreSettings": "settings",
    "Restorer": "restorer",
    "ScaleSchedule": "schedule",
    "SettingError": "errors",
    "TokenizerConfig": "config",
    "TransformerConfig": "config",
    "VARTransformer": "models.transformer",
    "VARestorerError": "errors",
    "VisualTokenizer": "models.tokenizer",
    "get_schedule": "schedule",
    "load_restorer": "loading",
}

__all__ = [*sorted(_HOME), "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
