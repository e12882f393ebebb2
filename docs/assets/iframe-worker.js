// Browsers refuse workers on pages opened from the disk. The search worker then runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.ready = new Promise(resolve => {
        const add = () => {
          const frame = document.createElement("iframe")
          frame.hidden = true
          document.body.append(frame)
          const inside = frame.contentWindow
          inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
          const script = inside.document.createElement("script")
          script.src = new URL(url, location.href).href
          script.onload = () => resolve(inside)
          inside.document.head.append(script)
        }
        if (document.body) add()
        else addEventListener("DOMContentLoaded", add)
      })
    }

    postMessage(data) {
      this.ready.then(inside => inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
