"""The only package that uses ComfyUI's internals; the rest of the pack calls its functions."""
