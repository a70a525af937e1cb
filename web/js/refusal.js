// Says why a loader of ours was refused when the host does not.
//
// Where another output of the workflow can run without the refused node, the host runs that one. Older
// hosts then only outline the node and keep the reason to themselves; newer ones show it.

import { api } from "../../../scripts/api.js"
import { app } from "../../../scripts/app.js"

const OURS = "VARestorer"
const SHOWN_MS = 30_000

function reasons(nodeErrors) {
  return Object.values(nodeErrors ?? {})
    .filter((node) => node.class_type.startsWith(OURS))
    .flatMap((node) => node.errors)
    .filter((error) => error.type === "custom_validation_failed")
    .map((error) => error.details.replace(/^\w+ - /, "")) // the host puts the input's name first
}

app.registerExtension({
  name: "VARestorer.Refusal",
  setup() {
    api.addEventListener("promptQueued", () => {
      const { setting, toast } = app.extensionManager
      // Only hosts that report refusals themselves know this setting.
      if (setting.get("Comfy.RightSidePanel.ShowErrorsTab") !== undefined) return
      // When nothing at all can run the host opens its dialog, which is drawn by the next frame.
      requestAnimationFrame(() => {
        if (document.querySelector("[role=dialog]")) return
        for (const detail of reasons(app.lastNodeErrors)) {
          toast.add({ severity: "error", summary: "VARestorer", detail, life: SHOWN_MS })
        }
      })
    })
  }
})
