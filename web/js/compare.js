// The before/after slider of VARestorer Compare.
//
// Hosts from 0.9 on have a compare view, which only Nodes 2.0 draws: there it is used. Everywhere else the slider is
// this file's own, a DOM widget, which every renderer shows.

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

const NODE = "VARestorerCompare"
const HOST_NODE = "ImageCompare" // came with the host's view
const EMPTY = "Run the workflow to compare."
const TEXT = "font:12px sans-serif; text-align:center; white-space:pre-wrap; color:var(--input-text, #ddd);"
const SMALLEST = [320, 360]
const FILL = "position:absolute; inset:0; width:100%; height:100%; object-fit:contain;"
const KEY_STEPS = { ArrowLeft: -2, ArrowRight: 2, PageDown: -10, PageUp: 10 }

function make(tag, style, parent, fields = {}) {
  const element = Object.assign(document.createElement(tag), fields)
  element.style.cssText = style
  parent?.append(element)
  return element
}

function address(saved) {
  return api.apiURL(`/view?${new URLSearchParams(saved)}`)
}

class CompareView {
  constructor() {
    this.root = make("div", "display:flex; flex-direction:column; gap:6px; height:100%; min-height:220px;")
    this.view = make(
      "div",
      "position:relative; flex:1; min-height:160px; overflow:hidden; cursor:ew-resize; touch-action:none;" +
        " border-radius:4px; background:#181818;",
      this.root,
      { tabIndex: 0, role: "slider", ariaLabel: "Before and after", ariaValueMin: "0", ariaValueMax: "100" }
    )
    // b lies below; the slider uncovers it from the right.
    const plain = { draggable: false, hidden: true }
    this.b = make("img", FILL, this.view, { ...plain, alt: "b" })
    this.a = make("img", FILL, this.view, { ...plain, alt: "a" })
    this.bar = make(
      "div",
      "position:absolute; top:0; bottom:0; width:2px; margin-left:-1px; background:#fff; pointer-events:none;" +
        " box-shadow:0 0 3px #000;",
      this.view
    )
    this.text = make("div", TEXT, this.root, { textContent: EMPTY })
    // Nodes 2.0 of older hosts gives a widget no height of the node's: the picture's shape does.
    this.b.onload = () => {
      this.view.style.aspectRatio = Math.max(this.b.naturalWidth / this.b.naturalHeight, 0.75)
    }
    this.moveTo(50)
    this.listen()
  }

  listen() {
    const follow = (event) => {
      const box = this.view.getBoundingClientRect()
      this.moveTo((100 * (event.clientX - box.left)) / box.width)
      event.preventDefault()
    }
    this.view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return // the others pan the canvas and open menus
      event.stopPropagation() // else the node is dragged
      this.view.focus()
      this.view.setPointerCapture(event.pointerId)
      follow(event)
    })
    this.view.addEventListener("pointermove", (event) => {
      if (!this.view.hasPointerCapture(event.pointerId)) return
      event.stopPropagation()
      follow(event)
    })
    this.view.addEventListener("keydown", (event) => {
      if (!(event.key in KEY_STEPS)) return
      event.stopPropagation()
      event.preventDefault()
      this.moveTo(this.percent + KEY_STEPS[event.key])
    })
  }

  moveTo(percent) {
    this.percent = Math.min(100, Math.max(0, percent))
    this.view.ariaValueNow = String(Math.round(this.percent))
    this.a.style.clipPath = `inset(0 ${100 - this.percent}% 0 0)`
    this.bar.style.left = `${this.percent}%`
  }

  show({ a_images, b_images, scores }) {
    for (const [image, [saved]] of [[this.a, a_images], [this.b, b_images]]) {
      image.src = address(saved)
      image.hidden = false
    }
    this.text.textContent = scores.join("\n")
  }
}

// The host's own view, where it has one: of several pictures, and drawn by Nodes 2.0 alone. On the classic canvas it is
// a box that says so, and the slider takes its place.
class HostView {
  constructor(node) {
    this.widget = node.addWidget("imagecompare", "compare_view", { beforeImages: [], afterImages: [] }, () => {}, {
      serialize: false
    })
    this.text = make("div", TEXT) // until there are scores, the view itself says what to do
    const scores = node.addDOMWidget("scores_text", "varestorer_scores", this.text, { serialize: false })
    scores.computeLayoutSize = undefined // else it takes half of the node
    for (const widget of [this.widget, scores]) {
      widget.serialize = false
      // Asked at every drawing: the user can change the renderer at any time.
      Object.defineProperty(widget, "hidden", { get: () => !LiteGraph.vueNodesMode, set() {} })
    }
  }

  show({ a_images, b_images, scores }) {
    this.widget.value = { beforeImages: a_images.map(address), afterImages: b_images.map(address) }
    this.widget.callback?.(this.widget.value)
    this.text.textContent = scores.join("\n")
  }
}

app.registerExtension({
  name: "VARestorer.Compare",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const views = [new CompareView()]
    const options = { serialize: false, hideOnZoom: false, getMinHeight: () => 220 }
    if (HOST_NODE in LiteGraph.registered_node_types) {
      views.push(new HostView(node))
      options.canvasOnly = true // not in Nodes 2.0
    }
    const widget = node.addDOMWidget("comparison", "varestorer_compare", views[0].root, options)
    widget.serialize = false // nothing of it belongs into a saved workflow
    node.setSize(node.size.map((side, axis) => Math.max(side, SMALLEST[axis])))
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      for (const view of views) view.show(output)
    }
  }
})
