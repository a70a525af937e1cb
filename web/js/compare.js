// The before/after slider of VARestorer Compare, as a widget of the node: the same in both renderers and all hosts.

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"
import { CompareView } from "./compare_view.js"
import { addViewWidget } from "./view_widget.js"

const NODE = "VARestorerCompare"
const SMALLEST = [320, 380]

function address(saved) {
  return api.apiURL(`/view?${new URLSearchParams(saved)}`)
}

// The classic canvas lies below the widget and does not see what happens on it. Nodes 2.0 passes it on by itself.
function passOn(element) {
  const classic = () => !LiteGraph.vueNodesMode
  const toCanvas = (handler) => (event) => {
    if (!classic()) return
    event.preventDefault()
    event.stopPropagation()
    app.canvas[handler](event)
  }
  element.addEventListener("wheel", toCanvas("processMouseWheel"), { passive: false })
  const others = (handler) => {
    const pass = toCanvas(handler)
    return (event) => {
      if (event.button > 0 || event.buttons & ~1) pass(event)
    }
  }
  element.addEventListener("pointerdown", others("processMouseDown"))
  element.addEventListener("pointermove", others("processMouseMove"))
  element.addEventListener("pointerup", others("processMouseUp"))
  element.addEventListener("contextmenu", (event) => classic() && event.preventDefault())
}

app.registerExtension({
  name: "VARestorer.Compare",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const view = new CompareView(address)
    passOn(view.root)
    addViewWidget(node, "comparison", view.root, { getMinHeight: () => 260 })
    node.setSize(node.size.map((side, axis) => Math.max(side, SMALLEST[axis])))
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      view.show(output)
    }
  }
})
