"""VARestorer for ComfyUI: one-step restoration and enlargement of photographs.

ComfyUI imports this file and asks `comfy_entrypoint` for the nodes; everything else is in `nodes`.
"""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
