// Sentences of a node that did its work and has something to say: a line on the node until it runs again. A notice,
// such as that a mask was empty, is shown as a message, too; a remark is not. What a native node cannot return comes as
// an event and is shown as a message.

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { addViewWidget } from "./view_widget.js"

const SPEAKERS = ["VARestorerRestoreImage", "VARestorerConvertModel", "VARestorerLoadAdapter"]
const NOTICE = "varestorer_notice"
const REMARK = "varestorer_remark"
const STYLE = "font:12px sans-serif; padding:4px; text-align:center; white-space:pre-wrap;"
const COLOURS = { [NOTICE]: "#ffb347", [REMARK]: "#aaa" }
const HEIGHT = 36
const SHOWN_MS = 15_000

function warn(summary, detail) {
  app.extensionManager.toast.add({ severity: "warn", summary, detail, life: SHOWN_MS })
}

function addLine(node) {
  const element = Object.assign(document.createElement("div"), { role: "status" })
  element.style.cssText = STYLE
  const height = () => (element.textContent ? HEIGHT : 0)
  addViewWidget(node, NOTICE, element, { getMinHeight: height, getMaxHeight: height })
  return element
}

function write(node, element, output) {
  const kind = output?.[REMARK] ? REMARK : NOTICE
  const sentences = output?.[kind] ?? []
  const grows = sentences.length && !element.textContent
  element.textContent = sentences.join("\n")
  element.hidden = !sentences.length
  element.style.color = COLOURS[kind]
  const height = node.computeSize()[1]
  if (grows && node.size[1] < height) node.setSize([node.size[0], height])
  for (const detail of kind === NOTICE ? sentences : []) warn(node.title, detail)
  app.graph.setDirtyCanvas(true, true)
}

const lines = new WeakMap()

app.registerExtension({
  name: "VARestorer.Notices",
  setup() {
    api.addEventListener("varestorer.notice", ({ detail }) => warn("VARestorer", detail.text))
    // A node that runs without a notice sends nothing, so its line goes when it begins. From the cache it stays.
    api.addEventListener("executing", ({ detail }) => {
      const node = app.graph.getNodeById(detail)
      if (lines.get(node)?.textContent) write(node, lines.get(node))
    })
  },
  nodeCreated(node) {
    if (!SPEAKERS.includes(node.comfyClass)) return
    const element = addLine(node)
    lines.set(node, element)
    element.hidden = true
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      write(this, element, output)
    }
  }
})
