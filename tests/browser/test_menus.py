"""Menus that the pack fills in itself: tile sizes, and the list of its templates."""

import comfy_host
import pytest

pytestmark = pytest.mark.browser

TILE_SIZES = """async () => {
    app.graph.clear()
    const add = type => {
        const node = LiteGraph.createNode(type)
        app.graph.add(node)
        return node
    }
    const [encode, vae, restore, model] = [
        'VARestorerEncodePyramid', 'VARestorerLoadVAE', 'VARestorerRestore', 'VARestorerLoadModel'
    ].map(add)
    const connect = (from, to, name) => from.connect(0, to, to.inputs.findIndex(i => i.name === name))
    const menu = encode.widgets.find(w => w.name === 'tile_size')
    const sizes = () => [...menu.options.values]
    const seen = { free: sizes() }
    connect(vae, encode, 'vae')
    seen.bundled = sizes()
    vae.widgets[0].value = 'infinity_vae_d32reg.pth'
    seen.official = sizes()
    connect(encode, restore, 'pyramid')
    connect(model, restore, 'model')
    seen.model = sizes()
    await app.refreshComboInNodes()
    seen.refreshed = sizes()
    return seen
}"""


def test_the_menu_of_tile_sizes_lists_what_vae_and_model_can_do(canvas):
    seen = canvas.page.evaluate(TILE_SIZES)
    assert len(seen["free"]) == 9
    assert seen["bundled"] == ["auto", "64", "128", "192", "256"]
    assert seen["official"] == ["auto", "256", "512", "768", "1024"]
    assert seen["model"] == seen["refreshed"] == ["auto", "64"]


def test_templates_are_listed_in_the_order_of_their_numbers(canvas, workflow_files):
    canvas.page.get_by_role("button", name="Templates").first.click()
    dialog = canvas.page.get_by_role("dialog")
    dialog.get_by_text(comfy_host.PACK_FOLDER, exact=True).first.click()
    dialog.get_by_test_id(f"template-workflow-{workflow_files.BEGINNERS}").wait_for()
    cards = dialog.locator("[data-testid^=template-workflow-]")
    found = cards.evaluate_all("cards => cards.map(card => card.dataset.testid)")
    assert found == [f"template-workflow-{name}" for name in workflow_files.names()][: len(found)]
    assert len(found) > 5


def test_both_parts_of_the_text_encoder_are_among_the_missing_models(canvas, workflow_files):
    """One of them is in no menu that is seen."""
    # The list of older versions, which the tests of other things close.
    canvas.page.evaluate(
        """() => {
            app.showMissingModelsError = found => { window.missing = found.map(m => m.name) }
        }"""
    )
    canvas.load(workflow_files.PROMPT, fit=False)
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    newer = "app.extensionManager.setting.get('Comfy.RightSidePanel.ShowErrorsTab') !== undefined"
    if canvas.page.evaluate(newer):
        canvas.page.get_by_test_id("error-overlay-see-errors").click()
        panel = canvas.page.get_by_test_id("properties-panel")
        for name in parts:
            panel.get_by_text(name).filter(visible=True).first.wait_for()
    else:
        canvas.page.wait_for_function("window.missing")
        assert set(parts) < set(canvas.page.evaluate("window.missing"))
    saved = canvas.page.evaluate(
        "app.graph.serialize().nodes.find(n => n.type === 'VARestorerLoadTextEncoder').widgets_values"
    )
    assert saved == parts[:1]
    prompt = canvas.page.evaluate("app.graphToPrompt()")["output"]
    (loader,) = (n for n in prompt.values() if n["class_type"] == "VARestorerLoadTextEncoder")
    assert loader["inputs"] == {"clip_name": parts[0]}
