"""Draws the thumbnails in workflows/ and the screenshots in docs/images again.

    .venv/bin/python tests/browser/pictures.py [NAME ...]

With names of workflows or of screenshots, such as restore-photo, only these are drawn.
Run it after a change of the bundled model, of a workflow or of a node's appearance. It has the requirements of
the browser tests; the first host found draws in the classic renderer and the last one in Nodes 2.0. Small files
of the tests replace those of third parties.
"""

import importlib.util
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from drawing import SIDE, caption, close_up, cut_into_tiles, halves, quote, side_by_side, square
from PIL import Image, ImageDraw, ImageOps

PACK = Path(__file__).parents[2]
IMAGES = PACK / "docs" / "images"
SOURCE = PACK / "varestorer_core" / "assets" / "demo_lq.png"

# The original takes the place of the degraded picture, and the result that of the original's.
COMPARE_WITH_ORIGINAL = """() => {
    const compare = app.graph.nodes.find(node => node.type === 'VARestorerCompare')
    const restore = app.graph.nodes.find(node => node.type === 'VARestorerRestoreImage')
    const original = LiteGraph.createNode('VARestorerExampleImage')
    original.widgets[0].value = 'original'
    app.graph.add(original)
    original.pos = [restore.pos[0], restore.pos[1] + restore.size[1] + 70]
    original.size = [...restore.size].map((side, axis) => axis ? original.size[1] : side)
    compare.title = 'Restored | original'
    restore.connect(0, compare, 0)
    original.connect(0, compare, 1)
    app.graph.remove(app.graph.nodes.find(node => node.type === 'SaveImage'))
    app.graph.remove(app.graph.nodes.find(node => node.type === 'MarkdownNote'))
    app.graph.groups.slice().forEach(group => app.graph.remove(group))
}"""
BOX_OF_GROUPS = """() => {
    const { scale, offset } = app.canvas.ds
    const frame = app.canvas.canvas.getBoundingClientRect()
    const boxes = app.graph.groups.map(({ pos, size }) =>
        [pos[0], pos[1], pos[0] + size[0], pos[1] + size[1]])
    const pick = (axis, choose) => choose(...boxes.map(box => box[axis]))
    const place = (value, axis) => (value + offset[axis]) * scale + (axis ? frame.top : frame.left)
    return [place(pick(0, Math.min), 0), place(pick(1, Math.min), 1),
        place(pick(2, Math.max), 0), place(pick(3, Math.max), 1)]
}"""


def load_conftest():
    sys.path.insert(0, str(PACK / "tests" / "support"))  # as pytest does
    path = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("varestorer_browser_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TESTS = load_conftest()
FILES = TESTS.files
SHOWN_AS_GRAPH = {FILES.OFFICIAL, FILES.CHECKPOINT, FILES.GENERATE}
"""Workflows whose pictures the small files cannot draw, or would draw as no model of that name does."""


def widget(prompt: dict, class_type: str, name: str):
    """Return a value of the last node of a type."""
    return [n["inputs"][name] for n in prompt.values() if n["class_type"] == class_type][-1]


def drawn_or_halves(name: str, source: Image.Image, result: Image.Image) -> Image.Image:
    """Show the result around the source where it is much larger, else half of each."""
    if name != FILES.UPSCALE:
        return halves(source, result)
    drawn = square(result)
    inset = source.convert("RGB").resize([SIDE * s // result.width for s in source.size])
    drawn.paste(ImageOps.expand(inset, 2, "white"), (SIDE - inset.width - 14, 10))
    return drawn


def draw_thumbnail(
    name: str, prompt: dict, source: Image.Image, saved: list[Image.Image]
) -> Image.Image:
    """Show what a workflow is about by what it made of the example picture."""
    result = saved[0]
    if name == FILES.MANY:
        return square(side_by_side(saved))
    if name == FILES.CAPTION:
        return quote(source, widget(prompt, "PrimitiveStringMultiline", "value"))
    if name == FILES.BIG:
        drawn = square(result)
        inset = source.convert("RGB").resize([SIDE * s // result.width for s in source.size])
        drawn.paste(ImageOps.expand(inset, 2, "white"), (SIDE - inset.width - 14, 10))
        return drawn
    if name == FILES.REGION:
        scale = SIDE / 256  # the sides of the mask
        left, top = (widget(prompt, "MaskComposite", axis) for axis in "xy")
        wide, high = (widget(prompt, "SolidMask", side) for side in ("width", "height"))
        box = [scale * value for value in (left, top, left + wide, top + high)]
        drawn = square(result)
        ImageDraw.Draw(drawn).rectangle(box, outline="white", width=2)
        return drawn
    if name == FILES.UPSCALE:
        return caption(drawn_or_halves(name, source, result), "restored, then upscaled x4")
    if name == FILES.STEPS:
        return caption(cut_into_tiles(source, result), "encode, restore, decode")
    if name == FILES.PROMPT:
        face = (0.27, 0.02, 0.67, 0.42)
        drawn = halves(close_up(source, face), close_up(result, face))
        return caption(drawn, f'"{widget(prompt, "CLIPTextEncode", "text")}"')
    if name == FILES.DAMAGE:
        return caption(halves(source, result), "dark, noisy or rainy: an adapter for each")
    return halves(source, result)


def draw_thumbnails(host, names: set[str]) -> None:
    """Run workflows, and show what they made of the example picture."""
    FILES.StandIns(host).put()
    for name in sorted(names):
        prompt = FILES.to_prompt(host, FILES.read(name))
        if name in FILES.NEEDED:
            prompt = FILES.take_bundled(prompt)
        (saver,) = (key for key, node in prompt.items() if node["class_type"] == "SaveImage")
        # What was damaged in the workflow is its source.
        damaged = [key for key, n in prompt.items() if n["class_type"] == "VARestorerDegrade"]
        for key in damaged:
            prompt["source"] = TESTS.comfy_host.node(
                "SaveImage", images=[key, 0], filename_prefix="source"
            )
        record = host.run(prompt)
        saved = host.pictures(record, saver)
        source = host.picture(record, "source") if damaged else Image.open(SOURCE)
        draw_thumbnail(name, prompt, source, saved).save(FILES.FOLDER / f"{name}.jpg", quality=90)
    FILES.StandIns(host).take()


@contextmanager
def open_canvas(host, renderer: str):
    with TESTS.open_browser() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        yield TESTS.comfy_canvas.Canvas(page, host, renderer)


def save_screenshot(canvas, path: Path, box: tuple[int, ...] | None = None) -> None:
    """Save what the browser shows, or a box (left, top, right, bottom) of it as a thumbnail."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        canvas.page.screenshot(path=file.name)
        picture = Image.open(file.name).convert("RGB")
    picture = square(picture.crop(box)) if box else picture
    picture.save(path, quality=85)


def wait_for_rest(canvas) -> None:
    """Wait until the view has stood still for half a second, drawn by a slow machine as well."""
    canvas.fit()
    canvas.page.wait_for_load_state("networkidle")
    canvas.page.evaluate(
        """async () => {
            for (let still = 0, last = ''; still < 30; ) {
                await new Promise(requestAnimationFrame)
                const now = String([app.canvas.ds.scale, ...app.canvas.ds.offset])
                still = now === last ? still + 1 : 0
                last = now
            }
        }"""
    )


def show_run(host, renderer: str, path: Path) -> None:
    with open_canvas(host, renderer) as canvas:
        canvas.load(FILES.BEGINNERS)
        canvas.run()
        canvas.wait_for_pictures()
        wait_for_rest(canvas)
        save_screenshot(canvas, path)


def show_missing_file(host, renderer: str, path: Path) -> None:
    with open_canvas(host, renderer) as canvas:
        canvas.load(FILES.BEGINNERS)
        # A file of somebody else's workflow: newer hosts offer to download the official ones instead.
        canvas.choose("VARestorerLoadVAE", "my_tokenizer.safetensors")
        canvas.run()
        canvas.read_error("'my_tokenizer.safetensors' is not in models/vae.")
        wait_for_rest(canvas)
        save_screenshot(canvas, path)


def show_scores(host, renderer: str, path: Path) -> None:
    """Compare the restoration with the original, which has the same size."""
    with open_canvas(host, renderer) as canvas:
        canvas.load(FILES.BEGINNERS)
        canvas.page.evaluate(COMPARE_WITH_ORIGINAL)
        canvas.run()
        canvas.wait_for_pictures()
        canvas.page.get_by_text("PSNR").filter(visible=True).first.wait_for()
        wait_for_rest(canvas)
        save_screenshot(canvas, path)


def show_workflow(host, renderer: str, name: str, path: Path) -> None:
    """Draw the graph of a workflow that cannot run, in the square of a thumbnail."""
    for node in FILES.read(name)["nodes"]:
        for model in node["properties"].get("models", []):
            # Empty ones, or the host reports over the graph that they are missing.
            weights = host.model_file(model["directory"], model["name"])
            weights.parent.mkdir(exist_ok=True)
            weights.touch()
    with open_canvas(host, renderer) as canvas:
        canvas.load(name)
        wait_for_rest(canvas)
        save_screenshot(canvas, path, canvas.page.evaluate(BOX_OF_GROUPS))


def show_first_session(host, renderer: str) -> None:
    """Record what a newcomer does first: a template, Run, the slider, then the official template."""
    with open_canvas(host, renderer) as canvas:

        def record(number: int, what: str) -> None:
            canvas.page.wait_for_load_state("networkidle")
            save_screenshot(canvas, IMAGES / f"first-session-{number}-{what}.jpg")

        canvas.page.get_by_role("button", name="Templates").first.click()
        dialog = canvas.page.get_by_role("dialog")
        dialog.get_by_text(TESTS.comfy_host.PACK_FOLDER, exact=True).first.click()
        dialog.get_by_test_id(f"template-workflow-{FILES.BEGINNERS}").wait_for()
        cards = "[...document.querySelectorAll('[data-testid^=template-workflow-] img')]"
        canvas.page.wait_for_function(f"{cards}.length > 5 && {cards}.every(i => i.naturalWidth)")
        record(1, "templates")
        dialog.get_by_test_id(f"template-workflow-{FILES.BEGINNERS}").click()
        canvas.page.wait_for_function("app.graph.nodes.length > 0")
        canvas.run()
        canvas.wait_for_pictures()
        box = canvas.page.locator(TESTS.comfy_canvas.COMPARISON).bounding_box()
        canvas.page.mouse.move(box["x"] + 0.65 * box["width"], box["y"] + box["height"] / 2)
        record(2, "compare")
        canvas.open_template(FILES.OFFICIAL)
        canvas.page.get_by_test_id("error-overlay-see-errors").click()
        canvas.page.get_by_role("button", name="Download").first.wait_for()
        record(3, "download")


def screenshots(old, new) -> dict:
    """Return how to draw each screenshot, by the name of its file."""
    shown = {
        name: (show_workflow, new, "nodes2", name, FILES.FOLDER / f"{name}.jpg")
        for name in SHOWN_AS_GRAPH
    }
    for name, show, host, renderer in (
        ("restore-photo", show_run, new, "nodes2"),
        ("restore-photo-classic", show_run, old, "canvas"),
        ("compare", show_scores, new, "nodes2"),
        ("missing-model", show_missing_file, new, "nodes2"),
        ("missing-model-classic", show_missing_file, old, "canvas"),
    ):
        shown[name] = (show, host, renderer, IMAGES / f"{name}.jpg")
    return shown | {"first-session": (show_first_session, new, "nodes2")}


def main() -> None:
    thumbnails = set(FILES.names()) - SHOWN_AS_GRAPH
    chosen = set(sys.argv[1:]) or thumbnails | set(screenshots(None, None))
    if unknown := chosen - thumbnails - set(screenshots(None, None)):
        raise SystemExit(f"no workflow or screenshot of this name: {', '.join(sorted(unknown))}")
    folders = TESTS.find_hosts()
    if not folders:
        raise SystemExit("no ComfyUI found: set COMFYUI_PATH to a checkout, or put one at ~/comfy")
    TESTS.comfy_host.PACK_FOLDER = "varestorer"  # stands on every node in Nodes 2.0
    base = Path(tempfile.mkdtemp())
    hosts = [TESTS.comfy_host.Host(f, base / f.name) for f in sorted({folders[0], folders[-1]})]
    try:
        if chosen & thumbnails:
            draw_thumbnails(hosts[-1], chosen & thumbnails)
        for name, (show, *arguments) in screenshots(hosts[0], hosts[-1]).items():
            if name in chosen:
                show(*arguments)
    finally:
        for host in hosts:
            host.stop()
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
