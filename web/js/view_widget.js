// A widget that shows something and holds no value: nothing of it is saved, and no panel of parameters lists it.

import { app } from "../../../scripts/app.js"

// Newer ComfyUI versions know hideInPanel, and are told apart by a setting that came with their panel of errors.
const isOlder = () => app.extensionManager.setting.get("Comfy.RightSidePanel.ShowErrorsTab") === undefined

// Made with the node: the Nodes 2.0 of older versions does not draw a widget that comes later.
export function addViewWidget(node, name, element, heights) {
  const options = { serialize: false, hideOnZoom: false, hideInPanel: true, ...heights }
  const widget = node.addDOMWidget(name, name, element, options)
  widget.serialize = false
  // The panel of older versions lists every widget but those that only the classic canvas draws. It reads the options
  // themselves, and Nodes 2.0 reads them through a reactive proxy, which is how the getter tells them apart.
  Object.defineProperty(widget.options, "canvasOnly", {
    get() {
      return !LiteGraph.vueNodesMode || (isOlder() && this === widget.options)
    },
    enumerable: true,
    configurable: true
  })
  // The menu of the classic canvas would offer to make a favourite of it.
  const found = node.getWidgetOnPos
  node.getWidgetOnPos = function () {
    const at = found.apply(this, arguments)
    return at === widget ? undefined : at
  }
  return widget
}
