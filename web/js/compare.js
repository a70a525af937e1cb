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
  element.addEventListener("contextmenu", (event) => {
    event.preventDefault()
    const drawn = classic() ? null : element.closest("[data-node-id]")
    if (!drawn) return
    // The node's menu: that of a widget would offer to make a favourite of one without a value.
    event.stopPropagation()
    drawn.dispatchEvent(new MouseEvent(event.type, event))
  })
}

const views = new Map() // of the nodes on the canvas

// The front end keeps what nodes returned by their place: the id, which in a subgraph follows the subgraph's.
function kept(node) {
  const graph = node.graph
  const root = !graph || graph === (app.rootGraph ?? app.graph)
  return app.nodeOutputs?.[root ? node.id : `${graph.id}:${node.id}`]
}

// A change of tab and Ctrl+Z make all nodes anew.
function refill(node) {
  const output = kept(node)
  if (output?.a_images) views.get(node)?.show(output)
}

app.registerExtension({
  name: "VARestorer.Compare",
  // After Ctrl+Z the outputs are still there when the node is.
  loadedGraphNode: refill,
  // After a change of tab they come last.
  onNodeOutputsUpdated() {
    for (const node of views.keys()) refill(node)
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const view = new CompareView(address)
    passOn(view.root)
    addViewWidget(node, "comparison", view.root, { getMinHeight: () => 260 })
    node.setSize(node.size.map((side, axis) => Math.max(side, SMALLEST[axis])))
    views.set(node, view)
    const { onExecuted, onRemoved } = node
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments)
      view.show(output)
    }
    node.onRemoved = function () {
      views.delete(this)
      return onRemoved?.apply(this, arguments)
    }
  }
})
