"""Import rules, checked in the source: no host in the core, no files in the models."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "varestorer_core"
NODES = ROOT / "nodes"

HOST_MODULES = {
    "comfy",
    "comfy_api",
    "comfy_api_nodes",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}


def imports(path):
    """Return the absolute dotted names that a file imports anywhere, and the level of each.

    A relative import is resolved against the file: `from ..errors import X` in models/ becomes
    `varestorer_core.errors.X`. Level 0 means that it was written as an absolute import.
    """
    package = path.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            found += [(f"{prefix}.{alias.name}", node.level) for alias in node.names]
    return found


def files(folder, *, outside=None):
    """Return the Python files under a folder, without those under `outside`."""
    paths = [path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]
    return [path for path in paths if outside is None or outside not in path.parents]


def violations(paths, allowed):
    """Return `file: import` for every import that `allowed(name, level)` rejects."""
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name, level in imports(path)
        if not allowed(name, level)
    ]


def within(name, *prefixes):
    """Return whether a dotted name is one of the modules or inside one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def test_core_imports_no_host_module():
    paths = files(CORE)
    assert paths
    assert not violations(
        paths, lambda name, level: level or name.split(".")[0] not in HOST_MODULES
    )


def test_own_modules_are_imported_relatively():
    # Inside ComfyUI the pack has a mangled name: an absolute import would be a second copy.
    own = ("varestorer_core", "nodes")
    paths = [ROOT / "__init__.py", *files(CORE), *files(NODES)]
    assert not violations(paths, lambda name, level: level or not within(name, *own))


def test_models_import_only_torch_configuration_and_each_other():
    core = "varestorer_core"
    own = [
        f"{core}.{module}" for module in ("models", "lora.layer", "config", "schedule", "errors")
    ]
    third_party = ("torch",)

    def allowed(name, level):
        if level:
            return within(name, *own)
        return within(name, *third_party) or name.split(".")[0] in sys.stdlib_module_names

    assert not violations([*files(CORE / "models"), CORE / "lora" / "layer.py"], allowed)


def test_the_cpu_kernels_have_one_importer():
    """The layer can be deleted: `kernels` works without it, and nothing else refers to it."""
    layer, door = "varestorer_core.cpu", CORE / "kernels.py"
    paths = [path for path in (*files(CORE, outside=CORE / "cpu"), *files(NODES)) if path != door]
    assert not violations(paths, lambda name, _: not within(name, layer))
    assert any(within(name, layer) for name, _ in imports(door))


def test_only_the_command_imports_training():
    outside = [
        path for path in files(CORE, outside=CORE / "distill") if CORE / "cli" not in path.parents
    ]
    paths = [*outside, *files(NODES)]
    assert not violations(paths, lambda name, _: not within(name, "varestorer_core.distill"))


def test_nothing_in_the_core_imports_the_command():
    paths = files(CORE, outside=CORE / "cli")
    assert not violations(paths, lambda name, _: not within(name, "varestorer_core.cli"))


def test_only_the_host_folder_imports_the_host():
    # The schema half of comfy_api is what nodes are written in; everything else goes through host/.
    host_only = sorted(HOST_MODULES - {"comfy_api"})
    paths = [ROOT / "__init__.py", *files(NODES, outside=NODES / "host")]
    assert not violations(paths, lambda name, level: level or not within(name, *host_only))


def test_the_walk_sees_imports_inside_functions(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "varestorer_core" / "models" / "late.py"
    path.parent.mkdir(parents=True)
    path.write_text("def late():\n    import comfy.ops\n    from ..pipeline import Restorer\n")
    assert imports(path) == [("comfy.ops", 0), ("varestorer_core.pipeline.Restorer", 2)]


@pytest.mark.parametrize(
    "code",
    [
        "import varestorer_core",
        "import varestorer_core.errors, varestorer_core.schedule, varestorer_core.config",
        "import sys\nfrom varestorer_core.cli.main import main\n"
        "sys.argv = ['varestorer', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code",
    ],
    ids=["package", "plain modules", "command help"],
)
def test_torch_is_imported_at_first_use_only(code):
    code += "\nimport sys\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_too_long_to_be_read_at_once():
    long = {path.name: lines(path) for path in [*files(CORE), *files(NODES)] if lines(path) > 300}
    assert not long


def test_the_network_fits_on_a_thousand_lines():
    names = [
        "transformer",
        "block",
        "attention",
        "autoencoder",
        "bsq",
        "rope",
        "text_conditioning",
        "sampling",
    ]
    network = [CORE / "models" / f"{name}.py" for name in names] + [CORE / "schedule.py"]
    assert sum(map(lines, network)) <= 1000
