"""The two socket types of the pack; all other data uses the host's native types."""

from __future__ import annotations

from comfy_api.latest import io

Model = io.Custom("VARESTORER_MODEL")
"""A ModelPatcher around the transformer. It is not a diffusion model and must not connect to KSampler."""

Pyramid = io.Custom("VARESTORER_PYRAMID")
"""A `varestorer_core.pipeline.LQPyramid`: bits of every tile, tile geometry, resized sources."""
