"""The canvas of a ComfyUI in a browser, used as a user would.

Nothing sleeps: every step waits for what a user would wait for.
"""

import contextlib
import itertools

import comfy_host
import workflow_files

# Timeouts, long enough for a busy machine.
STEP_SECONDS = 60
RUN_SECONDS = 300
# Missing resources that a new profile of every host requests and logs, without any pack.
HOST_NOISE = ("/userdata", "user.css", "favicon.ico")
# The host looks up the size of a workflow's models on the web, which its own policy forbids.
LOOKS_UP_SIZES = ("Content Security Policy", "Error fetching file size")
# The node library of 0.8.0 draws a dragged node outside of its app, also for the host's own nodes.
DRAG_PREVIEW = ("$t is not a function", "Proxy.$variant")
COMPARISON = '[role=slider][aria-label="Before and after"]'
# On a new profile, the tutorial would cover the canvas, and the other panels a part of it.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.RightSidePanel.IsOpen": False,
}

# Boxes [title, left, top, right, bottom] of all nodes as drawn.
BOXES = """vue => app.graph.nodes.map(node => {
    if (vue) {
        const box = document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect()
        return [node.title, box.left, box.top, box.right, box.bottom]
    }
    const [left, top, width, height] = node.boundingRect
    return [node.title, left, top, left + width, top + height]
})"""
# Nodes that are not completely inside one group; the note is outside of all.
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
        """Close dialogs that the host opened, such as the list of missing models of its first workflow."""
        dialogs = self.page.get_by_role("dialog").filter(visible=True)
        while count := dialogs.count():  # they overlap, and Escape closes the topmost
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
        """Double-click an empty canvas, type a node's name, and choose the entry of that name."""
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
        # In newer ComfyUI versions, the new node follows the pointer until a click.
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
        """Put a workflow of the pack on the canvas without opening the templates."""
        self.page.evaluate("graph => app.loadGraphData(graph)", workflow_files.read(name))
        if fit:
            self.fit()

    def fit(self) -> None:
        """Bring all nodes into view: others are not drawn and load no pictures."""
        self.page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")

    def unknown_nodes(self) -> list[str]:
        """Return the node types on the canvas that are not registered in the host."""
        return self.page.evaluate(
            "app.graph.nodes.map(n => n.type).filter(t => !(t in LiteGraph.registered_node_types))"
        )

    def missing_files(self) -> list[str]:
        """Return the menu values that the host does not offer, which are missing files."""
        return self.page.evaluate(
            """app.graph.nodes.flatMap(node => (node.widgets ?? [])
                .filter(w => w.type === 'combo' && Array.isArray(w.options?.values))
                .filter(w => !w.options.values.includes(w.value))
                .map(w => String(w.value)))"""
        )

    def overlapping_nodes(self) -> list[tuple[str, str]]:
        """Return the titles of overlapping nodes."""
        boxes = self.page.evaluate(BOXES, self.vue)
        return [
            (a[0], b[0])
            for a, b in itertools.combinations(boxes, 2)
            if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
        ]

    def ungrouped_nodes(self) -> list[str]:
        """Return the titles of nodes, other than the note, that are not inside their group."""
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
        """Wait until every node that shows a picture has loaded it."""
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
