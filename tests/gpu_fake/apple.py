"""Operators that the installed PyTorch has for Apple GPUs, by its own table of native functions.

An operator that is composed of others counts as one that it has, whatever those are.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

_EVERYWHERE = ("CompositeExplicitAutograd", "CompositeImplicitAutograd")
"""Prefixes of dispatch keys whose kernels call others, on any device."""
LIMITED = {"aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool2d_backward"}
"""Operators that MPS has for some sizes only: here, areas must divide the picture."""


def operators() -> set[str]:
    """Return the names of operators that MPS has without conditions on sizes; empty where PyTorch lacks the table."""
    found = importlib.util.find_spec("torchgen")
    if found is None or found.origin is None:
        return set()
    table = Path(found.origin).parent / "packaged/ATen/native/native_functions.yaml"
    if not table.exists():
        return set()
    there, delegated = set(), {}
    for entry in re.split(r"^- func: ", table.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        full = entry.split("(", 1)[0]
        if owner := re.search(r"^  structured_delegate: (\S+)", entry, re.MULTILINE):
            delegated[full] = owner[1]
            continue
        keys = re.findall(r"^    (\w[\w, ]*):", entry.partition("\n  dispatch:")[2], re.MULTILINE)
        names = [key.strip() for line in keys for key in line.split(",")]
        if not names or any(n == "MPS" or n.startswith(_EVERYWHERE) for n in names):
            there.add(full)
    there |= {name for name, owner in delegated.items() if owner in there}
    return {f"aten::{name.partition('.')[0]}" for name in there} - LIMITED
