"""Imports of the pack when the host loads it: only modules that the host has already imported.

Start-up time is not tested, a clock says little on a busy machine: docs/benchmarks.md has it as measured. What
costs the time is tested: which modules are reached from the root `__init__.py` without a function being called.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HOST = {"comfy", "comfy_api", "folder_paths", "latent_preview", "node_helpers", "nodes", "server"}
LIBRARIES = {"PIL", "numpy", "torch"}
"""The host has imported these before it looks for packs."""
LATE = {"checkpoint", "cli", "distill", "evaluate", "generation", "models", "pictures", "restorer"}
"""Parts of the core that only a run needs."""


def outermost_imports(tree):
    """Yield the import statements that run when a module is imported."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            ]


def module_file(parts, root):
    """Return the file of one of our modules, or None if it is not a module."""
    path = root.joinpath(*parts)
    return next((f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()), None)


def reached(root=ROOT):
    """Return the files of ours, and the names of others, that importing the pack imports."""
    ours, others = set(), set()
    pending = [root / "__init__.py"]
    while pending:
        path = pending.pop()
        if path in ours:
            continue
        ours.add(path)
        package = path.relative_to(root).parent.parts
        for node in outermost_imports(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                others |= {alias.name for alias in node.names}
            elif not node.level:
                others.add(node.module)
            else:
                base = package[: len(package) - node.level + 1]
                base += tuple(node.module.split(".")) if node.module else ()
                names = [(*base, alias.name) for alias in node.names]
                # Importing a.b.c also runs a and a.b; a name may be a module or an attribute of one.
                found = [module_file(n[:i], root) for n in names for i in range(1, len(n) + 1)]
                pending += [file for file in found if file is not None]
    return ours, others


def test_the_host_has_imported_everything_already():
    _, others = reached()
    top = {name.split(".")[0] for name in others}
    assert {"comfy_api", "torch"} <= top, "the walk does not reach the nodes"
    assert top - sys.stdlib_module_names <= HOST | LIBRARIES


def test_what_only_a_run_needs_is_imported_by_the_run():
    ours, _ = reached()
    core = {
        path.relative_to(ROOT / "varestorer_core").with_suffix("").parts[0]
        for path in ours
        if ROOT / "varestorer_core" in path.parents
    }
    assert "errors" in core, "the walk does not reach the core"
    assert not core & LATE


@pytest.mark.parametrize(
    ("statement", "counts"),
    [
        ("import heavy", True),
        ("try:\n    import heavy\nexcept ImportError:\n    pass", True),
        ("class A:\n    from heavy import b", True),
        ("def f():\n    import heavy", False),
        ("if TYPE_CHECKING:\n    import heavy", False),
    ],
)
def test_the_walk_follows_what_runs(tmp_path, statement, counts):
    (tmp_path / "__init__.py").write_text("from .a import b\n")
    (tmp_path / "a.py").write_text(statement + "\n")
    ours, others = reached(tmp_path)
    assert {path.name for path in ours} == {"__init__.py", "a.py"}
    assert ("heavy" in others) == counts
