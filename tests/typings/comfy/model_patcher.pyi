from typing import Any

import torch

class ModelPatcher:
    model: Any
    model_options: dict[str, Any]
    load_device: torch.device
    offload_device: torch.device
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def clone(self) -> ModelPatcher: ...
    def __getattr__(self, name: str) -> Any: ...

def __getattr__(name: str) -> Any: ...
