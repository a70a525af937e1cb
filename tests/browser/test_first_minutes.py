"""What a new user meets first: templates that can be read, missing files, notices and errors."""

import pytest

from varestorer_core.assets import TINY_TRANSFORMER, asset_path

pytestmark = pytest.mark.browser

RUN_WITH_MASK = """value => {
    app.graph.clear()
    const add = (type, x, y) => {
        const node = LiteGraph.createNode(type)
        node.pos = [x, y]
        app.graph.add(node)
        return node
    }
    const picture = add('VARestorerExampleImage', 40, 140)
    const model = add('VARestorerLoadModel', 40, 320)
    const vae = add('VARestorerLoadVAE', 40, 520)
    const mask = add('SolidMask', 40, 700)
    const restore = add('VARestorerRestoreImage', 420, 140)
    const keep = add('PreviewImage', 820, 140)
    mask.widgets[0].value = value
    // Not taken from the cache of another renderer's run, which says nothing.
    mask.widgets[1].value = 64 + Math.floor(Math.random() * 4000)
    const slot = name => restore.inputs.findIndex(input => input.name === name)
    picture.connect(0, restore, slot('image'))
    model.connect(0, restore, slot('model'))
    vae.connect(0, restore, slot('vae'))
    mask.connect(0, restore, slot('mask'))
    restore.connect(0, keep, 0)
}"""
SEEDS = """async ({ seed, detail }) => {
    const node = app.graph.nodes.find(n => n.type === 'VARestorerRestoreImage')
    const widget = name => node.widgets.find(w => w.name === name)
    widget('seed').value = seed
    widget('detail').value = detail
    const { output, workflow } = await app.graphToPrompt()
    return [
        output[node.id].inputs.seed,
        workflow.nodes.find(n => String(n.id) === String(node.id)).widgets_values[1],
        node.widgets[2].value
    ]
}"""
# Where on the screen the nodes begin and end.
ON_SCREEN = """() => {
    const { scale, offset } = app.canvas.ds
    const frame = app.canvas.canvas.getBoundingClientRect()
    const boxes = app.graph.nodes.map(node => {
        const [left, top, width] = node.boundingRect
        return [(left + offset[0]) * scale + frame.left, (left + width + offset[0]) * scale + frame.left]
    })
    const left = Math.min(...boxes.map(b => b[0]))
    const first = app.graph.nodes[boxes.findIndex(b => b[0] === left)].type
    return { left, right: Math.max(...boxes.map(b => b[1])), scale, first }
}"""
# Titles of the nodes behind which the wire runs that brings the picture before to Compare.
BEHIND_NODES = """() => app.graph.nodes.filter(n => n.type === 'VARestorerCompare').flatMap(compare => {
    const link = app.graph.links.get(compare.inputs[0].link)
    const source = app.graph.getNodeById(link.origin_id)
    const from = source.getConnectionPos(false, link.origin_slot)
    const to = compare.getConnectionPos(true, 0)
    const reach = Math.hypot(to[0] - from[0], to[1] - from[1]) / 4
    const xs = [from[0], from[0] + reach, to[0] - reach, to[0]]
    const ys = [from[1], from[1], to[1], to[1]]
    const at = (p, t) => (1 - t) ** 3 * p[0] + 3 * (1 - t) ** 2 * t * p[1] + 3 * (1 - t) * t ** 2 * p[2] + t ** 3 * p[3]
    const points = Array.from({ length: 101 }, (_, i) => [at(xs, i / 100), at(ys, i / 100)])
    return app.graph.nodes.filter(node => node !== source && node !== compare).filter(node => {
        const [left, top, width, height] = node.boundingRect
        return points.some(([x, y]) => x > left && x < left + width && y > top && y < top + height)
    }).map(node => node.title)
})"""
FOLDERS = ("diffusion_models", "vae", "text_encoders", "loras")


def test_templates_open_readable_with_the_note_first_and_wires_in_sight(canvas, workflow_files):
    for name in workflow_files.names():
        canvas.load(name, fit=False)
        seen = canvas.page.evaluate(ON_SCREEN)
        assert seen["scale"] >= 0.85, name
        assert seen["left"] > 62, name  # the side bar is 60 wide
        if not canvas.vue:  # the Nodes 2.0 of 0.8.0 draws everything a fifth larger
            assert seen["right"] < 1600, name
        assert seen["first"] == "MarkdownNote", name
        assert canvas.page.evaluate(BEHIND_NODES) == [], name


def test_every_loader_of_ours_says_where_its_files_can_be_had(canvas, workflow_files):
    """As the front end has it in its hands, from which it offers the download."""
    for name in workflow_files.names():
        canvas.load(name, fit=False)
        loaders = canvas.page.evaluate(
            """app.graph.nodes.filter(n => n.type.startsWith('VARestorerLoad'))
                .map(n => [n.type, n.properties.models ?? []])"""
        )
        assert loaders, name
        for kind, models in loaders:
            assert models, (name, kind)
            for model in models:
                assert model["url"].startswith("https://huggingface.co/"), (name, kind)
                assert model["directory"] in FOLDERS, (name, kind)


def test_the_official_template_names_its_files_where_they_go(canvas, workflow_files):
    """Newer ComfyUI versions list what is missing, with a button; 0.8.0 offers safetensors only."""
    canvas.load(workflow_files.OFFICIAL, fit=False)
    assert not canvas.unknown_nodes()
    models = canvas.page.evaluate(
        "app.graph.nodes.flatMap(n => (n.properties.models ?? []).map(m => [m.name, m.directory]))"
    )
    for name, folder in [
        ("varestorer.pth", "diffusion_models"),
        ("infinity_vae_d32reg.pth", "vae"),
        ("general_swinir_v1.ckpt", "upscale_models"),
    ]:
        assert [name, folder] in models
    assert sorted(canvas.missing_files()) == sorted(workflow_files.NEEDED[workflow_files.OFFICIAL])
    details = canvas.page.get_by_test_id("error-overlay-see-errors")
    if canvas.page.evaluate(
        "app.extensionManager.setting.get('Comfy.RightSidePanel.ShowErrorsTab') !== undefined"
    ):
        details.click()
        for name in ("varestorer.pth", "infinity_vae_d32reg.pth", "general_swinir_v1.ckpt"):
            canvas.page.get_by_text(name).filter(visible=True).first.wait_for()
        canvas.page.get_by_role("button", name="Download").first.wait_for()


def test_a_menu_without_files_has_bundled_ones_or_says_which_file_goes_where(canvas):
    values = canvas.page.evaluate(
        """['VARestorerLoadTextEncoder', 'VARestorerLoadAdapter'].map(type => {
            const node = LiteGraph.createNode(type)
            app.graph.add(node)
            return node.widgets[0].value
        })"""
    )
    assert values == [
        "model-00001-of-00002.safetensors -> models/text_encoders",
        "varestorer-tiny motion blur (bundled)",
    ]


def test_an_empty_mask_is_said_and_a_seed_without_effect_is_left_out(canvas):
    canvas.page.evaluate(RUN_WITH_MASK, 0)
    assert canvas.page.evaluate(SEEDS, {"seed": 77, "detail": 0}) == [0, 77, "fixed"]
    assert canvas.page.evaluate(SEEDS, {"seed": 77, "detail": -1}) == [0, 77, "fixed"]
    assert canvas.page.evaluate(SEEDS, {"seed": 77, "detail": 0.5}) == [77, 77, "fixed"]
    canvas.fit()
    canvas.run()
    sentence = "The mask is empty: nothing was restored."
    canvas.page.locator(".p-toast-message").filter(has_text=sentence).first.wait_for()
    canvas.page.get_by_role("status").filter(has_text=sentence, visible=True).first.wait_for()
    assert sentence in canvas.host.log
    assert not canvas.errors


ADAPT = """() => {
    const find = type => app.graph.nodes.find(node => node.type === type)
    const adapter = LiteGraph.createNode('VARestorerLoadAdapter')
    adapter.pos = [40, 900]
    // Not taken from the cache of another renderer's run, which says nothing.
    adapter.widgets[1].value = 0.5 + Math.random() / 2
    app.graph.add(adapter)
    const restore = find('VARestorerRestoreImage')
    find('VARestorerLoadModel').connect(0, adapter, 0)
    adapter.connect(0, restore, restore.inputs.findIndex(input => input.name === 'model'))
}"""


# An adapter of the bundled model that recommends a detail of its own.
WRITE_ADAPTER = """
import sys, torch
from dataclasses import replace
from varestorer_core.checkpoint import identify, read_checkpoint, save_safetensors
from varestorer_core.lora.recommended import RECOMMENDED, Recommended
base, metadata = read_checkpoint(sys.argv[1])
config = replace(identify(base, metadata).config, lora_rank=2)
owner = "blocks.0.sa.proj"
out, into = base[owner + ".weight"].shape
factors = {owner + ".lora_down.weight": torch.ones(2, into), owner + ".lora_up.weight": torch.ones(out, 2)}
more = {RECOMMENDED: Recommended("test", {"detail": 0.4}).as_metadata()}
save_safetensors(factors, sys.argv[2], kind="adapter", config=config, more=more)
"""


@pytest.fixture
def adapter(host):
    """The only adapter of the menu."""
    path = host.model_file("loras", "recommends.safetensors")
    host.python_with_core(WRITE_ADAPTER, asset_path(TINY_TRANSFORMER), path)
    yield path
    path.unlink()


# The file comes first: the front end asks for the menus when it starts.
def test_a_loader_says_what_its_adapter_recommends_without_a_message(adapter, canvas):
    canvas.page.evaluate(RUN_WITH_MASK, 1)
    canvas.page.evaluate(ADAPT)
    canvas.choose("VARestorerLoadAdapter", adapter.name)
    canvas.fit()
    canvas.run()
    sentence = "Automatic settings: detail 0.4"
    canvas.page.get_by_role("status").filter(has_text=sentence, visible=True).first.wait_for()
    assert not canvas.page.locator(".p-toast-message").filter(has_text=sentence).count()
    assert not canvas.errors


def test_a_seed_stays_where_an_adapter_may_recommend_noise(canvas):
    canvas.page.evaluate(RUN_WITH_MASK, 1)
    assert canvas.page.evaluate(SEEDS, {"seed": 77, "detail": -1})[0] == 0
    canvas.page.evaluate(ADAPT)
    assert canvas.page.evaluate(SEEDS, {"seed": 77, "detail": -1})[0] == 77
    assert canvas.page.evaluate(SEEDS, {"seed": 77, "detail": 0})[0] == 0


def test_what_a_native_node_cannot_return_is_shown_as_a_message(canvas):
    """The server announces it, such as tiles whose places are lost."""
    canvas.page.evaluate(
        """app.api.dispatchEvent(
            new CustomEvent('varestorer.notice', { detail: { text: 'Their places are lost.' } })
        )"""
    )
    toast = canvas.page.locator(".p-toast-message").filter(has_text="Their places are lost.")
    toast.first.wait_for()
    assert not canvas.errors


# What is set on the all-in-one node, the class that the card shows, and the beginning of its sentence.
REFUSALS = {
    "size": (
        "{ size_by: 'longer side', longer_side: 16384 }",
        "SettingError",
        "Choose another size",
    ),
    # 4096 x 4096 enlarged eight times: the size, the need or the limit, and the way out.
    "huge": ("{ upscale: 8 }", "ImageError", "32768 x 32768 pixels"),
}
REFUSE = """huge => {
    const restore = app.graph.nodes.find(n => n.type === 'VARestorerRestoreImage')
    if (huge) {
        const picture = LiteGraph.createNode('EmptyImage')
        app.graph.add(picture)
        picture.widgets[0].value = picture.widgets[1].value = 4096
        picture.connect(0, restore, restore.inputs.findIndex(input => input.name === 'image'))
    }
    window.failed = null
    app.api.addEventListener('execution_error', event => { window.failed = event.detail })
}"""


@pytest.mark.parametrize("case", REFUSALS)
def test_an_error_begins_with_a_short_name_and_our_sentence(canvas, case):
    """No path of modules before the sentence."""
    values, name, words = REFUSALS[case]
    canvas.page.evaluate(RUN_WITH_MASK, 1)
    canvas.page.evaluate(REFUSE, case == "huge")
    canvas.page.evaluate(
        f"""() => Object.entries({values}).forEach(([name, value]) => {{
            const node = app.graph.nodes.find(n => n.type === 'VARestorerRestoreImage')
            node.widgets.find(w => w.name === name).value = value
        }})"""
    )
    canvas.fit()
    canvas.run()
    canvas.page.wait_for_function("window.failed")
    failed = canvas.page.evaluate("window.failed")
    assert failed["exception_type"] == name
    sentence = failed["exception_message"].strip()
    assert words in sentence
    assert "\n" not in sentence
    if case == "huge":
        assert "smaller upscale factor" in sentence
    canvas.read_error(sentence[:40])
