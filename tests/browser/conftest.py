"""Opens the canvas of every ComfyUI that is found in a headless Chromium, as a user would.

Needs Chromium (Debian: `apt-get install chromium`) and `pip install playwright`; no browser is
downloaded.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

import comfy_canvas
import comfy_host
import pytest
import workflow_files as files
from comfy_installations import find_hosts

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def open_browser():
    """Start a headless Chromium, or skip."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no Chromium found: looked for {', '.join(PROGRAMS)} on PATH")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox does not work for root, which containers run as.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        running = driver.chromium.launch(executable_path=program, args=arguments)
        yield running
        running.close()


@pytest.fixture(scope="package")
def browser():
    with open_browser() as running:
        yield running


@pytest.fixture(
    scope="package",
    params=find_hosts() or [None],
    ids=lambda p: p.name if p else "no-host",
)
def host(browser, request, tmp_path_factory):
    """A running ComfyUI, started only if there is a browser."""
    if request.param is None:
        pytest.skip(
            "no ComfyUI found: set COMFYUI_PATH to a checkout, or put one at ~/comfy/ComfyUI"
        )
    running = comfy_host.Host(request.param, tmp_path_factory.mktemp("host"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def workflow_files():
    """The module of the workflows and the files that they need."""
    return files


@pytest.fixture
def stand_ins(host):
    """Small files instead of the weights that some workflows need, in a host's folders."""
    stand_ins = files.StandIns(host)
    stand_ins.put()
    yield
    stand_ins.take()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Let the fixture see whether its test failed."""
    report = (yield).get_result()
    if report.when == "call":
        item.failed = report.failed


@pytest.fixture(scope="package")
def profile(browser, host):
    """One browser profile per host, so that its front end is fetched and compiled once."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    # Nothing of an earlier test comes back: the front end keeps open workflows here.
    context.add_init_script("localStorage.clear(); sessionStorage.clear()")
    yield context
    context.close()


@pytest.fixture(params=["canvas", "nodes2"])
def canvas(profile, host, request):
    """A tab with an empty canvas, in the classic and in the Nodes 2.0 renderer.

    After a failure the screen is saved in the folder VARESTORER_SCREENS, if that is set.
    """
    page = profile.new_page()
    try:
        yield comfy_canvas.Canvas(page, host, request.param)
        if getattr(request.node, "failed", False) and "VARESTORER_SCREENS" in os.environ:
            name = re.sub(r"\W+", "_", request.node.name)
            page.screenshot(path=Path(os.environ["VARESTORER_SCREENS"]) / f"{name}.png")
    finally:
        page.close()
