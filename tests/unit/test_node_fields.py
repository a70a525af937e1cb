"""Schemas must not use a field that the oldest supported ComfyUI does not have, or no node would load.

What newer ComfyUI versions added goes through `where_known` and `expert`, which ask the host.
"""

import ast
from pathlib import Path

import pytest

NODES = Path(__file__).parents[2] / "nodes"

# ComfyUI 0.8.0.
SCHEMA = {
    "node_id",
    "display_name",
    "category",
    "inputs",
    "outputs",
    "hidden",
    "description",
    "is_input_list",
    "is_output_node",
    "is_deprecated",
    "is_experimental",
    "is_api_node",
    "not_idempotent",
    "enable_expand",
}
SOCKET = {"tooltip", "optional", "display_name", "is_output_list", "extra_dict"}
WIDGET = SOCKET | {
    "default",
    "min",
    "max",
    "step",
    "round",
    "options",
    "control_after_generate",
    "multiline",
}


def calls():
    """Yield (place, kind of call, names of its keywords) of all schemas, inputs and outputs."""
    for path in sorted(NODES.glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            if name == "expert":  # the class comes first, its keywords with it
                name = ast.unparse(call.args[0])
            kind = name.split(".")[-1]
            if kind in ("Schema", "Input", "Output"):
                names = {keyword.arg for keyword in call.keywords if keyword.arg}
                yield f"{path.name}:{call.lineno}", kind, names


@pytest.mark.parametrize(
    ("kind", "known"), [("Schema", SCHEMA), ("Input", WIDGET), ("Output", SOCKET)]
)
def test_fields_are_those_of_the_oldest_host(kind, known):
    found = [(place, names) for place, of, names in calls() if of == kind]
    assert found
    assert not [(place, names - known) for place, names in found if names - known]
