"""Opens the canvas of every ComfyUI that is found in a headless Chromium, as a user would.

Needs Chromium (Debian: `apt-get install chromium`) and `pip install playwright`; no browser is
downloaded. Nothing sleeps: every step waits for what a user would wait for.
"""

import contextlib
import importlib.util
import itertools
import os
import re
import shutil
from pathlib import Path

import comfy_host
import pytest

PACK = Path(__file__).parents[2]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Ends of waits, not waits: long enough for a machine that is busy with other things.
STEP_SECONDS = 60
RUN_SECONDS = 300
# What a fresh profile of every host asks for in vain, and so logs, without any pack.
HOST_NOISE = ("/userdata", "user.css", "favicon.ico")
# The host looks up the size of a workflow's models on the web; its own policy forbids it.
LOOKS_UP_SIZES = ("Content Security Policy", "Error fetching file size")
# The node library of 0.8.0 draws what is being dragged outside of its app; so for the host's own nodes.
DRAG_PREVIEW = ("$t is not a function", "Proxy.$variant")
COMPARISON = '[role=slider][aria-label="Before and after"]'
# On a new profile the tutorial would cover the canvas, and the others a part of it; the last is remembered, too.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
}


def _load(name: str):
    """Return a module of the host tests, which lie in a folder that is not a package."""
    path = PACK / "tests" / "host" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"varestorer_host_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = _load("workflow_files")

# Boxes [title, left, top, right, bottom] of all nodes, where they are drawn.
BOXES = """vue => app.graph.nodes.map(node => {
    if (vue) {
        const box = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect()
        return [node.title, box.left, box.top, box.right, box.bottom]
    }
    const [left, top, width, height] = node.boundingRect
    return [node.title, left, top, left + width, top + height]
})"""
# Nodes that do not lie wholly in one group; the note stands outside of all.
UNGROUPED = """() => app.graph.nodes.filter(node => node.type !== 'MarkdownNote').filter(node => {
    const [left, top, width, height] = node.boundingRect
    return !app.graph.groups.some(({pos, size}) =>
        left >= pos[0] && top >= pos[1]
        && left + width <= pos[0] + size[0] && top + height <= pos[1] + size[1])
}).map(node => node.title)"""

# Names of the nodes that the host's own search finds, best first. Their order depends on how often nodes are used, and
# the front end looks that up some time after it has started.
SEARCH = """async words => {
    const { $pinia } = document.querySelector('#vue-app').__vue_app__.config.globalProperties
    const search = () => $pinia._s.get('nodeDef').nodeSearchService.searchNode(words, [])
    search()
    await $pinia._s.get('nodeFrequency').loadNodeFrequencies()
    return search().map(node => node.display_name)
}"""


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
    params=comfy_host.find_hosts() or [None],
    ids=lambda p: p.name if p else "no-host",
)
def host(browser, request, tmp_path_factory):
    """A running ComfyUI, booted only where there is a browser to look at it."""
    if request.param is None:
        pytest.skip(
            "no ComfyUI found: set COMFYUI_PATH to a checkout, or put one at ~/comfy/ComfyUI"
        )
    running = comfy_host.Host(request.param, tmp_path_factory.mktemp("host"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def workflow_files():
    """What the host tests know of the workflows and the files that they need."""
    return FILES


@pytest.fixture
def stand_ins(host):
    """Small files in the place of the weights that some workflows need, in a host's folders."""
    files = FILES.StandIns(host)
    files.put()
    yield
    files.take()


class Canvas:
    """One browser tab with the host's canvas."""

    def __init__(self, page, host, renderer: str):
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        self.Timeout = PlaywrightTimeout
        self.page, self.host = page, host
        self.vue = renderer == "nodes2"
        self.errors: list[str] = []
        page.set_default_timeout(STEP_SECONDS * 1000)
        settings = {**SETTINGS, "Comfy.VueNodes.Enabled": self.vue}
        host.fetch("/api/settings", settings)
        page.goto(f"http://127.0.0.1:{host.port}/", wait_until="domcontentloaded")
        page.locator("#graph-canvas").wait_for()
        # The host opens its default workflow last.
        page.wait_for_function(
            "window.app?.extensionManager?.workflow?.activeWorkflow && app.graph?.nodes.length"
        )
        page.evaluate("app.graph.clear()")
        self.close_dialogs()
        # Older hosts list missing models over the canvas, some time after a workflow was opened.
        missing = page.get_by_role("dialog").filter(has_text="Missing Models")
        page.add_locator_handler(missing, lambda: page.keyboard.press("Escape"), no_wait_after=True)
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    def close_dialogs(self) -> None:
        """Close what the host opened by itself, such as the list of models that its first workflow misses."""
        dialogs = self.page.get_by_role("dialog").filter(visible=True)
        while count := dialogs.count():  # they lie over each other, and Escape closes the topmost
            self.page.keyboard.press("Escape")
            dialogs.nth(count - 1).wait_for(state="hidden")

    @property
    def errors_beyond_the_drag(self) -> list[str]:
        return [e for e in self.errors if not any(words in e for words in DRAG_PREVIEW)]

    def _note(self, message) -> None:
        where = message.location.get("url", "")
        noise = any(words in message.text for words in LOOKS_UP_SIZES)
        noise = noise or any(address in where for address in HOST_NOISE)
        if message.type == "error" and not noise:
            self.errors.append(f"{message.text} ({where})")

    def search(self, words: str) -> list[str]:
        """Return the names of the nodes that the host's search finds, best first."""
        return self.page.evaluate(SEARCH, words)

    def add_by_search(self, display_name: str) -> None:
        """Double-click an empty canvas, type a node's name, and take the entry of that name."""
        self.page.evaluate("app.graph.clear()")
        field = self.page.locator("input:focus")
        for _ in range(5):
            # The canvas drops a double-click that follows another click too soon.
            self.page.mouse.dblclick(800, 500)
            with contextlib.suppress(self.Timeout):
                field.wait_for(timeout=STEP_SECONDS * 100)
                break
        field.fill(display_name)
        found = self.page.locator(".p-autocomplete-option, [data-testid=result-item]")
        found.filter(has_text=display_name).first.wait_for()
        # The first line of an entry is the name; the rest are category and pack.
        names = [text.strip().splitlines()[0].strip() for text in found.all_inner_texts()]
        assert display_name in names, names
        for _ in range(names.index(display_name)):
            self.page.keyboard.press("ArrowDown")
        self.page.keyboard.press("Enter")
        self.page.wait_for_function("app.graph.nodes.length > 0")
        found.first.wait_for(state="detached")
        # Newer hosts hang the new node on the pointer until a click puts it down.
        self.page.mouse.click(800, 800)

    def drag_in(self, display_name: str) -> None:
        """Look a node up in the node library at the side, and drag it onto the empty canvas."""
        self.page.evaluate("app.graph.clear()")
        field = self.page.locator(".side-bar-panel input, input[placeholder*='earch']").first
        if not field.is_visible():
            self.page.keyboard.press("n")
        field.fill(display_name)
        entry = self.page.get_by_text(display_name, exact=True).first
        entry.click(trial=True)  # Playwright waits for elements that move
        box = entry.bounding_box()
        self.page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
        self.page.mouse.down()
        self.page.mouse.move(900, 500, steps=5)
        self.page.mouse.move(1100, 500, steps=5)
        self.page.mouse.up()
        self.page.wait_for_function("app.graph.nodes.length > 0")

    def node_types(self) -> list[str]:
        return self.page.evaluate("app.graph.nodes.map(node => node.type)")

    def open_template(self, name: str) -> None:
        """Open a workflow of the pack from the host's list of templates."""
        self.page.evaluate("app.graph.clear()")
        self.page.get_by_role("button", name="Templates").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(comfy_host.PACK_FOLDER, exact=True).first.click()
        card = dialog.get_by_test_id(f"template-workflow-{name}")
        card.click()
        card.wait_for(state="detached")
        self.page.wait_for_function("app.graph.nodes.length > 0")
        self.fit()

    def load(self, name: str, *, fit: bool = True) -> None:
        """Put a workflow of the pack on the canvas without the way through the templates."""
        self.page.evaluate("graph => app.loadGraphData(graph)", FILES.read(name))
        if fit:
            self.fit()

    def fit(self) -> None:
        """Bring all nodes into view: out of sight they are not drawn and load no pictures."""
        self.page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")

    def unknown_nodes(self) -> list[str]:
        """Return the types on the canvas that the host does not know."""
        return self.page.evaluate(
            "app.graph.nodes.map(n => n.type).filter(t => !(t in LiteGraph.registered_node_types))"
        )

    def missing_files(self) -> list[str]:
        """Return the values of menus that the host does not offer: files that are not there."""
        return self.page.evaluate(
            """app.graph.nodes.flatMap(node => (node.widgets ?? [])
                .filter(w => w.type === 'combo' && Array.isArray(w.options?.values))
                .filter(w => !w.options.values.includes(w.value))
                .map(w => String(w.value)))"""
        )

    def overlapping_nodes(self) -> list[tuple[str, str]]:
        """Return the titles of nodes that lie over each other."""
        boxes = self.page.evaluate(BOXES, self.vue)
        return [
            (a[0], b[0])
            for a, b in itertools.combinations(boxes, 2)
            if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
        ]

    def ungrouped_nodes(self) -> list[str]:
        """Return the titles of nodes, other than the note, that stick out of their group."""
        return self.page.evaluate(UNGROUPED)

    def choose(self, node_type: str, value: str) -> None:
        """Set the first widget of all nodes of a type."""
        self.page.evaluate(
            """([type, value]) => app.graph.nodes.filter(node => node.type === type)
                .forEach(node => { node.widgets[0].value = value })""",
            [node_type, value],
        )

    def remove(self, node_type: str) -> None:
        self.page.evaluate(
            """type => app.graph.nodes.filter(node => node.type === type)
                .forEach(node => app.graph.remove(node))""",
            node_type,
        )

    def run(self) -> None:
        """Press Run."""
        self.page.get_by_role("button", name="Run", exact=True).first.click()

    def wait_for_pictures(self) -> None:
        """Wait until every node that shows a picture shows one."""
        loaded = "images.length > 0 && images.every(i => i.complete && i.naturalWidth > 0)"
        types = "['SaveImage', 'PreviewImage', 'MaskPreview']"
        nodes = f"app.graph.nodes.filter(n => {types}.includes(n.type))"
        images = "[...(n.imgs ?? [])]"
        if self.vue:
            images = '[...document.querySelectorAll(`[data-node-id="${n.id}"] img`)]'
        self.page.wait_for_function(
            f"{nodes}.every(n => {{ const images = {images}; return {loaded} }})",
            timeout=RUN_SECONDS * 1000,
        )
        if "VARestorerCompare" in self.node_types():
            self.page.wait_for_function(
                f"[...document.querySelectorAll('{COMPARISON} img')].filter(i => i.naturalWidth > 0).length > 1"
            )

    def refusal(self) -> str:
        """Return the reply to a prompt that the host accepts in part or not at all."""
        with self.page.expect_response("**/api/prompt") as reply:
            self.page.evaluate("app.queuePrompt(0).catch(() => {})")
        return reply.value.text()

    def read_error(self, sentence: str) -> None:
        """Wait until a sentence can be read in the host's error report."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        dialog = self.page.get_by_role("dialog")
        toast = self.page.locator(".p-toast-message")
        card = self.page.get_by_test_id("error-overlay-see-errors")
        dialog.or_(toast).or_(card).first.wait_for()
        text = self.page.get_by_text(sentence).filter(visible=True).first
        # A second click would fold the words away again.
        info = self.page.locator("button[aria-label^='Info for'][aria-expanded=false]")
        for _ in range(12):
            # Newer hosts: a card, a list, and the words behind a button, each drawn some time after the click before.
            with contextlib.suppress(PlaywrightTimeout):
                for step in (card, info):
                    if step.first.is_visible():
                        step.first.click(timeout=STEP_SECONDS * 100)
                text.wait_for(timeout=STEP_SECONDS * 100)
                return
        text.wait_for()


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
        yield Canvas(page, host, request.param)
        if getattr(request.node, "failed", False) and "VARESTORER_SCREENS" in os.environ:
            name = re.sub(r"\W+", "_", request.node.name)
            page.screenshot(path=Path(os.environ["VARESTORER_SCREENS"]) / f"{name}.png")
    finally:
        page.close()
