// The all-in-one node comes first for the pack's name.
//
// All our nodes begin with that name, and ComfyUI then lists the shortest first: the parts before the whole. Node
// definitions have a hook for their place in a search; nothing but our own node's place changes.

import { app } from "../../../scripts/app.js"

const NODE = "VARestorerRestoreImage"
const BEGINS_WITH = 1 // first score of a name that begins with what was typed

app.registerExtension({
  name: "VARestorer.Search",
  setup() {
    const kind = LiteGraph.registered_node_types[NODE]?.nodeData?.constructor?.prototype
    const before = kind?.postProcessSearchScores
    if (typeof before !== "function") return
    kind.postProcessSearchScores = function (scores) {
      const [match, frequency, ...rest] = before.call(this, scores)
      const first = this.name === NODE && match === BEGINS_WITH
      return [match, first ? -Infinity : frequency, ...rest]
    }
  }
})
