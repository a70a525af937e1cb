// Seeds keep their value, and one that has no effect does not run a node again.
//
// With detail 0 no noise is drawn, so every seed gives the same pixels. The host's cache compares all inputs, so the
// prompt says 0 then; the widget, and with it the saved workflow, keeps the user's seed.

import { app } from "../../../scripts/app.js"

const WITH_DETAIL = ["VARestorerRestoreImage", "VARestorerRestore"]
const WITH_SEED = [...WITH_DETAIL, "VARestorerDegrade", "VARestorerGenerate"]
const BUNDLED = "varestorer-tiny (bundled)" // recommends detail 0

const widget = (node, name) => node.widgets?.find((entry) => entry.name === name)

function isLinked(node, name) {
  return node.inputs?.some((input) => input.name === name && input.link != null)
}

// Whether the model that a node is connected to is the bundled one, without adapters: they may recommend another detail.
function hasBundledModel(node) {
  const slot = node.inputs?.findIndex((input) => input.name === "model") ?? -1
  const found = slot < 0 ? null : node.getInputNode(slot)
  return found?.comfyClass === "VARestorerLoadModel" && widget(found, "model_name")?.value === BUNDLED
}

function drawsNoise(node) {
  if (isLinked(node, "detail")) return true
  const detail = widget(node, "detail")?.value ?? 1
  return detail > 0 || (detail < 0 && !hasBundledModel(node))
}

app.registerExtension({
  name: "VARestorer.Seed",
  nodeCreated(node) {
    if (!WITH_SEED.includes(node.comfyClass)) return
    // ComfyUI before 0.9 cannot say it in the schema. A workflow that is opened sets its own value after this.
    const control = widget(node, "control_after_generate")
    if (control) control.value = "fixed"
    const seed = widget(node, "seed")
    if (!seed || !WITH_DETAIL.includes(node.comfyClass)) return
    seed.serializeValue = () => (drawsNoise(node) ? seed.value : 0)
  }
})
