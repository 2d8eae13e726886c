// Learning on the device: a button, how far it is, and the verdict.

import { act, get, send } from "./api.js";
import { el, text } from "./dom.js";

const LEAST = 60; // seconds of healthy sound, below which there is nothing to hold apart
const AGAIN = 1000; // ms

export class LearnCard {
  constructor(machine, signal) {
    this.machine = machine;
    this.signal = signal;
    this.place = `machines/${encodeURIComponent(machine)}/learning`;
    this.bar = el("progress", { max: 1, "aria-label": "How far learning is", hidden: true });
    this.status = el("p", { role: "status", class: "dim" }, "");
    this.notes = el("ul", { class: "dim" });
    this.seen = el("p", { hidden: true }, el("a", { href: `api/machines/${encodeURIComponent(machine)}/report`, target: "_blank", rel: "noopener" }, "Open the report: recordings over time, the least typical to listen to, what to record next"));
    this.button = el("button", { type: "button", class: "main", id: "learn", disabled: true, onclick: act(() => this.begin()) }, "Learn now");
    this.odd = el("select", { "aria-label": "Recordings unlike all others" },
      el("option", { value: "refuse" }, "ask about recordings unlike all others"), el("option", { value: "leave-out" }, "leave them out"), el("option", { value: "keep" }, "learn from them too"));
    this.node = el("section", { class: "card", "data-for": "admin", "aria-labelledby": "h-learn" }, el("h2", { id: "h-learn" }, "Learn it here"),
      el("p", { class: "dim" }, "From the healthy sound recorded so far, on this device: nothing is trained, and listening goes on meanwhile."),
      el("p", {}, this.button, " ", this.odd), this.bar, this.status, this.seen, this.notes);
    this.running = false;
    this.follow();
  }

  offer(seconds) {
    this.enough = seconds >= LEAST;
    this.button.disabled = this.running || !this.enough;
    if (!this.enough && !this.running && !this.status.textContent) text(this.status, "Record healthy sound first: ten minutes at least.");
  }

  async begin() {
    this.show(await send(this.place, { untypical: this.odd.value }));
    return null;
  }

  async follow() {
    while (!this.signal.aborted) {
      const found = document.hidden ? null : await get(this.place).catch(() => null);
      if (found && !this.signal.aborted) this.show(found);
      await new Promise((done) => setTimeout(done, this.running ? AGAIN : 4 * AGAIN));
    }
  }

  show(found) {
    if (found.state === "never") return;
    this.running = found.state === "running";
    this.button.disabled = this.running || !this.enough;
    this.bar.hidden = !this.running;
    if (this.running) {
      if (found.of) this.bar.value = found.done / found.of;
      else this.bar.removeAttribute("value");
      text(this.status, found.of > 1 ? `${found.step}: ${found.done} of ${found.of}` : found.step);
    } else {
      const next = found.commissioned ? "The bundle listens in shadow first, as the configuration says." : "The bundle is taken up within a minute.";
      text(this.status, found.state === "done" ? `Learnt: ${found.text}. ${next}` : `Nothing was learnt: ${found.text}`);
    }
    this.seen.hidden = found.state !== "done";
    const key = JSON.stringify(found.notes);
    if (key === this.known) return;
    this.known = key;
    this.notes.replaceChildren(...found.notes.map((note) => el("li", {}, note)));
  }
}
