// A bundle from this computer: sent in pieces, compared with the one in use, taken up on a click.

import { act, get, send } from "./api.js";
import { bytes, el, text } from "./dom.js";

const AGAIN = 1000, TRIES = 5;

export class UploadCard {
  constructor(machine, signal) {
    this.signal = signal;
    this.place = `machines/${encodeURIComponent(machine)}/upload`;
    this.bar = el("progress", { max: 1, "aria-label": "How far the upload is", hidden: true });
    this.status = el("p", { role: "status", id: "upload-status", class: "dim" });
    this.table = el("div", {});
    this.row = el("div", { class: "row" });
    const pick = (words, more) => el("label", { class: "button" }, words, el("input", { type: "file", multiple: true, class: "unseen", ...more, onchange: act(async (event) => {
      const chosen = [...event.target.files];
      event.target.value = ""; // the same may be chosen again
      await this.begin(chosen);
      return null;
    }) }));
    this.node = el("section", { class: "card", "data-for": "admin", "aria-labelledby": "h-upload" }, el("h2", { id: "h-upload" }, "A bundle from this computer"),
      el("p", { class: "dim" }, "As auscult export or auscult learn wrote it, whole. It is verified and shown beside the one in use first; nothing judges by it before you say so."),
      el("div", { class: "row" }, pick("Choose the bundle's folder…", { webkitdirectory: true, id: "upload-folder" }), pick("or all files in it…", { id: "upload-files" })),
      this.bar, this.status, this.table, this.row);
    get(this.place).then((found) => this.show(found)).catch(() => {});
  }

  // What is there already of the same bundle is not sent again.
  async begin(chosen) {
    const files = new Map(chosen.filter((one) => !one.name.startsWith(".")).map((one) => [one.name, one]));
    if (!files.size) return;
    const manifest = files.get("manifest.json");
    const sum = manifest ? crc32(new Uint8Array(await manifest.arrayBuffer())) : 0;
    this.show(await send(this.place, { files: Object.fromEntries([...files].map(([name, one]) => [name, one.size])), manifest_crc32: sum }));
    let found = await get(this.place);
    for (const [name, file] of files) {
      let at = found.received[name] || 0;
      while (at < file.size) {
        if (this.signal.aborted) return;
        const piece = new Uint8Array(await file.slice(at, at + found.slice_bytes).arrayBuffer());
        found = await this.sent({ file: name, offset: at, crc32: crc32(piece), data: btoa(String.fromCharCode(...piece)) });
        at = found.received[name];
        this.show(found);
      }
    }
    found = await send(`${this.place}/check`);
    while (found.state === "checking" && !this.signal.aborted) {
      this.show(found);
      await new Promise((done) => { setTimeout(done, AGAIN); });
      found = await get(this.place).catch(() => found);
    }
    this.show(found);
  }

  // A line that breaks is tried again; what the device refuses is not.
  async sent(piece) {
    for (let n = 1; ; n += 1) {
      try {
        return await send(`${this.place}/slice`, piece);
      } catch (fault) {
        if (fault.status || n === TRIES || this.signal.aborted) throw fault;
        await new Promise((done) => { setTimeout(done, AGAIN * n); });
      }
    }
  }

  show(found) {
    const moving = found.state === "receiving" || found.state === "checking";
    this.bar.hidden = !moving;
    if (found.state === "checking") this.bar.removeAttribute("value");
    else if (found.of) this.bar.value = found.bytes / found.of;
    const said = { none: "", receiving: `${bytes(found.bytes)} of ${bytes(found.of)} are here. If the line breaks, choose the same bundle again: it goes on.`,
      checking: "All is here: it is verified, and tried in a process of its own.", checked: `Verified. ${found.text ? `${found.text}. ` : ""}Is it the one that you mean?`,
      refused: `Refused, and thrown away: ${found.text}`, used: found.text }[found.state];
    this.status.className = found.state === "refused" ? "bad" : "dim";
    text(this.status, said);
    const checked = found.state === "checked";
    this.table.replaceChildren(...(checked ? [el("table", { class: "stack", id: "upload-compared" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Bundle"), el("th", { scope: "col" }, "In use"), el("th", { scope: "col" }, "Uploaded"))),
      el("tbody", {}, found.compared.map((one) => el("tr", {}, el("th", { scope: "row" }, one.what), el("td", { "data-label": "In use" }, el("span", {}, one.now || "–")), el("td", { "data-label": "Uploaded" }, el(one.now === one.new ? "span" : "strong", {}, one.new)))))),
    el("ul", { class: "dim" }, found.notes.map((note) => el("li", {}, note)))] : []));
    this.row.replaceChildren(...(checked ? [el("button", { type: "button", class: "main", id: "upload-use", onclick: act(async () => {
      this.show(await send(`${this.place}/use`, { digest: found.digest }));
      return null;
    }) }, "Use the uploaded bundle")] : []),
    ...(checked || found.state === "receiving" ? [el("button", { type: "button", onclick: act(async () => this.show(await send(this.place, undefined, "DELETE"))) }, "Throw it away")] : []));
  }
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(data) {
  let value = 0xffffffff;
  for (const byte of data) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
