// Tile sizes that the connected VAE and model can do, in the menu of VARestorer Encode Pyramid.
//
// The menu is made before anything is connected, so it lists the sizes of all models. Files of other names may have any.

import { app } from "../../../scripts/app.js"

const NODE = "VARestorerEncodePyramid"
const IS_BUNDLED = /\(bundled\)$/
const OF_BUNDLED_MODEL = ["auto", "64"]
const OF_VAES = [
  [IS_BUNDLED, ["auto", "64", "128", "192", "256"]],
  [/infinity_vae_d\d+(reg)?\.\w+$/, ["auto", "256", "512", "768", "1024"]]
]

// What is chosen in the loader at an input.
function chosenAt(node, name, loader) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1
  const found = slot < 0 ? null : node.getInputNode(slot)
  return found?.comfyClass === loader ? String(found.widgets[0].value) : ""
}

function possible(node, all) {
  const vae = chosenAt(node, "vae", "VARestorerLoadVAE")
  const restorers = node.getOutputNodes?.(0) ?? []
  const models = restorers.map((restorer) => chosenAt(restorer, "model", "VARestorerLoadModel"))
  if (models.length && models.every((name) => IS_BUNDLED.test(name))) return OF_BUNDLED_MODEL
  return OF_VAES.find(([names]) => names.test(vae))?.[1] ?? all
}

app.registerExtension({
  name: "VARestorer.TileSize",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const menu = node.widgets?.find((widget) => widget.name === "tile_size")
    if (!menu) return
    let all = menu.options.values
    Object.defineProperty(menu.options, "values", {
      get: () => possible(node, all),
      set: (values) => (all = values),
      enumerable: true,
      configurable: true
    })
  }
})
