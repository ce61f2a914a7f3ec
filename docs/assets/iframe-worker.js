/* Search without a server: browsers start no worker from a file, so on file:// a hidden frame runs the worker's script. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.waiting = [];
      this.frame.addEventListener("load", () => {
        this.loaded = true;
        this.waiting.splice(0).forEach(data => this.postMessage(data));
      });
      window.addEventListener("message", event => {
        if (event.source !== this.frame.contentWindow) return;
        const answer = new MessageEvent("message", {data: event.data});
        this.dispatchEvent(answer);
        if (this.onmessage) this.onmessage(answer);
      });
      const source = new URL(url, document.baseURI).href.replace(/"/g, "%22");
      this.frame.srcdoc =
        "<script>const send = parent.postMessage.bind(parent); self.postMessage = data => send(data, '*')</" +
        `script><script src="${source}"></` + "script>";
      const attach = () => document.body.append(this.frame);
      if (document.body) attach(); else document.addEventListener("DOMContentLoaded", attach);
    }
    postMessage(data) {
      if (this.loaded) this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data, source: parent}));
      else this.waiting.push(data);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
