"""Finds the installations of ComfyUI for the tests, and their Python.

Hosts: the folders in COMFYUI_PATH (several with the path separator), else ~/comfy/ComfyUI*.
Python: COMFYUI_PYTHON, else the host's own .venv or venv, else the one that runs the tests.
"""

import os
import sys
from pathlib import Path


def find_hosts() -> list[Path]:
    """Return the folders of all installations of ComfyUI."""
    if "COMFYUI_PATH" in os.environ:
        folders = [Path(p) for p in os.environ["COMFYUI_PATH"].split(os.pathsep) if p]
    else:
        folders = sorted(Path.home().glob("comfy/ComfyUI*"))
    return [folder.resolve() for folder in folders if (folder / "main.py").is_file()]


def host_python(folder: Path) -> str:
    """Return the interpreter that has a host's requirements."""
    if "COMFYUI_PYTHON" in os.environ:
        return os.environ["COMFYUI_PYTHON"]
    for environment in (".venv", "venv"):
        for name in ("bin/python", "Scripts/python.exe"):
            if (folder / environment / name).is_file():
                return str(folder / environment / name)
    return sys.executable
