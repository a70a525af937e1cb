"""The only place that talks to ComfyUI's internals; the rest of the pack sees plain functions."""
