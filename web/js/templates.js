// The templates of the pack in the order of their numbers.
//
// ComfyUI lists the templates of packs in the order in which the file system returns them.

import { api } from "../../../scripts/api.js"

const FIRST = "01 Restore a photo"
const list = api.getWorkflowTemplates

if (typeof list === "function") {
  api.getWorkflowTemplates = async function () {
    const found = await list.apply(this, arguments)
    for (const names of Object.values(found)) {
      if (names.includes(FIRST)) names.sort()
    }
    return found
  }
}
