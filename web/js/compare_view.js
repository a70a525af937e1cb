// What VARestorer Compare shows: two pictures under one slider, with pages and zoom. Knows nothing of ComfyUI.
//
// The slider follows the pointer, and a drag in the zoomed view moves the pictures. Wheel, middle and right button are
// left to the canvas.

const EMPTY = "Run the workflow to compare."
const TEXT = "font:12px sans-serif; text-align:center; white-space:pre-wrap; color:var(--input-text, #ddd);"
const FILL = "position:absolute; inset:0; overflow:hidden;"
const BUTTON =
  "font:12px sans-serif; padding:1px 7px; border:1px solid #666; border-radius:4px; cursor:pointer;" +
  " background:var(--comfy-input-bg, #222); color:var(--input-text, #ddd);"
const KEY_STEPS = { ArrowLeft: -2, ArrowRight: 2 }
const ZOOMS = [0, 1, 2, 4, 8] // screen pixels per pixel of the second picture; 0 fits it into the view

function make(tag, style, parent, fields = {}) {
  const element = Object.assign(document.createElement(tag), fields)
  element.style.cssText = style
  parent?.append(element)
  return element
}

export class CompareView {
  // address: turns what the node saved into the address of a picture.
  constructor(address) {
    this.address = address
    this.root = make("div", "display:flex; flex-direction:column; gap:6px; height:100%; min-height:220px;")
    this.view = make(
      "div",
      "position:relative; flex:1; min-height:160px; overflow:hidden; cursor:ew-resize; touch-action:none;" +
        " border-radius:4px; background:#181818; outline-offset:-2px;",
      this.root,
      { tabIndex: 0, role: "slider", ariaLabel: "Before and after", ariaValueMin: "0", ariaValueMax: "100" }
    )
    const picture = "position:absolute; max-width:none; pointer-events:none; user-select:none;"
    const plain = { draggable: false, hidden: true }
    // b lies below, and the layer with a is cut off at the slider.
    this.b = make("img", picture, this.view, { ...plain, alt: "b" })
    this.layer = make("div", FILL + " pointer-events:none;", this.view)
    this.a = make("img", picture, this.layer, { ...plain, alt: "a" })
    this.bar = make(
      "div",
      "position:absolute; top:0; bottom:0; width:2px; margin-left:-1px; background:#fff; pointer-events:none;" +
        " box-shadow:0 0 3px #000;",
      this.view
    )
    this.tools = make("div", "display:none; gap:4px; justify-content:center; align-items:center;", this.root)
    this.caption = make("div", TEXT, this.root, { textContent: EMPTY })
    this.text = make("div", TEXT, this.root)
    this.addTools()
    this.sets = { a: [], b: [], original: [] }
    Object.assign(this, { page: 0, zoom: 0, center: [0.5, 0.5], left: "a" })
    this.a.onload = this.b.onload = () => this.layOut()
    new ResizeObserver(() => this.layOut()).observe(this.view)
    this.moveTo(50)
    this.listen()
  }

  addTools() {
    const button = (text, title, act) => {
      const made = make("button", BUTTON, this.tools, { textContent: text, title, type: "button" })
      made.addEventListener("click", act)
      return made
    }
    this.previous = button("<", "Previous picture (Page Up)", () => this.turn(-1))
    this.pages = make("span", TEXT, this.tools)
    this.next = button(">", "Next picture (Page Down)", () => this.turn(1))
    button("-", "Smaller (-)", () => this.zoomBy(-1))
    this.zoomText = make("span", TEXT + " min-width:34px;", this.tools)
    button("+", "Larger (+)", () => this.zoomBy(1))
    this.swap = button("original", "Show the original left of the slider (o)", () => this.swapLeft())
  }

  listen() {
    let grip = null // where a drag of the zoomed view began
    this.view.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return // the others pan the canvas and open menus
      event.stopPropagation() // else the node is dragged
      event.preventDefault()
      this.view.focus({ preventScroll: true })
      this.view.setPointerCapture(event.pointerId)
      this.follow(event)
      if (this.zoom) grip = { x: event.clientX, y: event.clientY, center: [...this.center] }
    })
    this.view.addEventListener("pointermove", (event) => {
      if (event.buttons & ~1) return // the canvas is being panned
      if (this.view.hasPointerCapture(event.pointerId)) event.stopPropagation()
      if (grip && event.buttons) this.pan(grip, event)
      else this.follow(event)
    })
    for (const end of ["pointerup", "pointercancel"]) this.view.addEventListener(end, () => (grip = null))
    this.view.addEventListener("dblclick", (event) => {
      event.stopPropagation() // the canvas would open its search
      const [x, y] = this.place(event)
      this.setZoom(this.zoom ? 0 : 1, [x, y])
    })
    this.view.addEventListener("keydown", (event) => {
      const acts = {
        PageUp: () => this.turn(-1),
        PageDown: () => this.turn(1),
        "+": () => this.zoomBy(1),
        "=": () => this.zoomBy(1),
        "-": () => this.zoomBy(-1),
        o: () => this.swapLeft()
      }
      if (event.ctrlKey || event.metaKey || event.altKey) return
      if (event.key in KEY_STEPS) this.moveTo(this.percent + KEY_STEPS[event.key])
      else if (event.key in acts) acts[event.key]()
      else return
      event.stopPropagation()
      event.preventDefault()
    })
  }

  // The canvas scales the whole view: screen pixels per pixel of ours.
  get scale() {
    return this.view.getBoundingClientRect().width / this.view.offsetWidth || 1
  }

  follow(event) {
    const box = this.view.getBoundingClientRect()
    this.moveTo((100 * (event.clientX - box.left)) / box.width)
  }

  // Where in the picture an event is, from 0 to 1 in each direction.
  place(event) {
    const box = this.b.getBoundingClientRect()
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
  }

  pan(grip, event) {
    const box = this.b.getBoundingClientRect()
    this.center = [
      grip.center[0] - (event.clientX - grip.x) / box.width,
      grip.center[1] - (event.clientY - grip.y) / box.height
    ]
    this.layOut()
  }

  moveTo(percent) {
    this.percent = Math.min(100, Math.max(0, percent))
    this.view.ariaValueNow = String(Math.round(this.percent))
    this.layer.style.clipPath = `inset(0px ${100 - this.percent}% 0px 0px)`
    this.bar.style.left = `${this.percent}%`
  }

  zoomBy(step) {
    const at = ZOOMS.indexOf(this.zoom)
    this.setZoom(ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, at + step))])
  }

  setZoom(zoom, center = this.zoom ? this.center : [0.5, 0.5]) {
    Object.assign(this, { zoom, center })
    this.layOut()
  }

  // Both pictures get the box of the second, so that they stay in step.
  layOut() {
    const { naturalWidth: wide, naturalHeight: high } = this.b
    const { offsetWidth: width, offsetHeight: height } = this.view
    if (!wide || !width) return
    const fitted = Math.min(width / wide, height / high)
    const scale = this.zoom ? this.zoom / this.scale : fitted
    const sides = [wide * scale, high * scale]
    const corner = [width, height].map((side, axis) => {
      if (sides[axis] <= side) return (side - sides[axis]) / 2
      const half = side / 2 / sides[axis]
      this.center[axis] = Math.min(1 - half, Math.max(half, this.center[axis]))
      return side / 2 - this.center[axis] * sides[axis]
    })
    for (const { style } of [this.a, this.b]) {
      Object.assign(style, {
        left: `${corner[0]}px`,
        top: `${corner[1]}px`,
        width: `${sides[0]}px`,
        height: `${sides[1]}px`,
        imageRendering: this.zoom ? "pixelated" : "auto"
      })
    }
    this.zoomText.textContent = this.zoom ? `${this.zoom * 100}%` : "fit"
    this.describe()
  }

  describe() {
    const { a, b } = this
    const size = (image) => `${image.naturalWidth} x ${image.naturalHeight}`
    if (!a.naturalWidth || !b.naturalWidth) return
    this.caption.textContent = `${this.left === "a" ? "" : "original "}${size(a)} -> ${size(b)}`
  }

  turn(step) {
    const count = Math.max(this.sets.a.length, this.sets.b.length)
    this.page = (this.page + step + count) % count
    this.showPage()
  }

  swapLeft() {
    if (!this.sets.original.length) return
    this.left = this.left === "a" ? "original" : "a"
    this.showPage()
  }

  show({ a_images, b_images, original_images = [], scores }) {
    this.sets = { a: a_images, b: b_images, original: original_images }
    const count = Math.max(a_images.length, b_images.length)
    this.page = Math.min(this.page, count - 1)
    if (!original_images.length) this.left = "a"
    this.text.textContent = scores.join("\n")
    this.tools.style.display = "flex"
    for (const element of [this.previous, this.pages, this.next]) element.hidden = count < 2
    this.swap.hidden = !original_images.length
    this.showPage()
  }

  showPage() {
    const pick = (set) => set[Math.min(this.page, set.length - 1)]
    const pairs = [[this.a, pick(this.sets[this.left])], [this.b, pick(this.sets.b)]]
    for (const [image, saved] of pairs) {
      const address = this.address(saved)
      if (image.getAttribute("src") !== address) image.src = address
      image.hidden = false
    }
    const count = Math.max(this.sets.a.length, this.sets.b.length)
    this.pages.textContent = `${this.page + 1} / ${count}`
    this.swap.textContent = this.left === "a" ? "original" : "before"
    this.layOut()
  }
}
