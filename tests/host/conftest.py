"""Starts every ComfyUI that is found, once per session."""

import pytest
from comfy_host import Host
from comfy_installations import find_hosts


@pytest.fixture(
    scope="session", params=find_hosts() or [None], ids=lambda p: p.name if p else "no-host"
)
def host(request, tmp_path_factory):
    if request.param is None:
        pytest.skip(
            "no ComfyUI found: set COMFYUI_PATH to a checkout, or put one at ~/comfy/ComfyUI"
        )
    running = Host(request.param, tmp_path_factory.mktemp("host"))
    yield running
    running.stop()
