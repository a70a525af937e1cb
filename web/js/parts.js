// Offers the other part of a split model in ComfyUI's list of missing models.
//
// The list looks for the values of menus that have no file, and a split model is chosen by one of its parts. So the
// loader has a second menu, which is hidden and not saved: its value is a part that is missing.

import { app } from "../../../scripts/app.js"

const NODE = "VARestorerLoadTextEncoder"
const PART = /-\d{5}-of-(\d{5})(?=\.\w+$)/

function otherParts(name) {
  const total = String(name).match(PART)?.[1]
  if (!total) return []
  const numbers = Array.from({ length: Number(total) }, (_, index) => String(index + 1).padStart(5, "0"))
  return numbers.map((number) => name.replace(PART, `-${number}-of-${total}`)).filter((part) => part !== name)
}

app.registerExtension({
  name: "VARestorer.Parts",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const chosen = node.widgets?.find((widget) => widget.name === "clip_name")
    if (!chosen) return
    const hidden = { serialize: false, hidden: true, hideInPanel: true, canvasOnly: true }
    const part = node.addWidget("combo", "other part", "", () => {}, { ...hidden, values: [] })
    Object.assign(part, { serialize: false, hidden: true, computeSize: () => [0, -4] })
    const present = () => [chosen.options?.values ?? []].flat()
    Object.defineProperty(part.options, "values", { get: present, enumerable: true, configurable: true })
    const missing = () => otherParts(chosen.value).find((name) => !present().includes(name))
    Object.defineProperty(part, "value", {
      get: () => missing() ?? present()[0] ?? "",
      set() {},
      enumerable: true,
      configurable: true
    })
  }
})
