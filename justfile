# Common tasks; `just` lists them. Each calls what CI calls.

# Create the environment and restore the demo picture.
setup:
    python3 -m venv .venv
    .venv/bin/pip install -e ".[standalone,dev]"
    .venv/bin/varestorer demo -o demo

# Check style and types.
lint:
    .ci/lint

# Run the tests that need nothing but the environment.
test *arguments:
    .venv/bin/pytest {{ arguments }}

# Run the tests in a real ComfyUI (COMFYUI_PATH or ~/comfy/ComfyUI).
host *arguments:
    .venv/bin/pytest -m "host or slow" tests/host {{ arguments }}

# Run the tests in a real browser.
browser *arguments:
    .venv/bin/pytest -m browser tests/browser {{ arguments }}

# Measure a restoration by stages.
bench *arguments:
    .venv/bin/python benchmarks/suite.py {{ arguments }}

# Build the documentation into site/.
docs:
    .venv/bin/pip install -e ".[docs]"
    .venv/bin/mkdocs build --strict
