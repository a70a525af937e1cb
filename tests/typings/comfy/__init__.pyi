"""ComfyUI as the nodes use it: pyright runs where none is installed."""

from typing import Any

def __getattr__(name: str) -> Any: ...
