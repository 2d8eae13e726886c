// Hearing a microphone live, as long as the button is pressed in.

import { Refused } from "./api.js";
import { el, notice } from "./dom.js";

const AHEAD = 0.4; // seconds of sound that wait to be played: the network is not even

export class Listening {
  constructor(machine) {
    this.machine = machine;
    this.stopped = null;
    this.button = el("button", { type: "button", "data-for": "operator", "aria-pressed": "false", "data-act": "listen", onclick: () => (this.stopped ? this.stop() : this.start().catch((fault) => this.fail(fault))) }, "▶ Listen live");
  }

  stop() {
    this.stopped?.abort();
    this.stopped = null;
    this.ears?.close();
    this.ears = null;
    this.button.setAttribute("aria-pressed", "false");
    this.button.textContent = "▶ Listen live";
  }

  fail(fault) {
    this.stop();
    if (fault.name !== "AbortError") notice(fault.message, true);
  }

  async start() {
    const stopped = new AbortController(), ears = new AudioContext();
    Object.assign(this, { stopped, ears });
    const response = await fetch(`api/machines/${encodeURIComponent(this.machine)}/listen`, { method: "POST", headers: { "x-auscult": "1" }, signal: stopped.signal });
    if (!response.ok) throw new Refused(response.status, (await response.json().catch(() => ({}))).error || "The device does not let it be heard.");
    await ears.resume();
    this.button.setAttribute("aria-pressed", "true");
    this.button.textContent = "■ Stop listening";
    const rate = Number(response.headers.get("x-sample-rate")), reader = response.body.getReader();
    let due = 0, left = new Uint8Array(0), heard = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done || stopped.signal.aborted) break;
      const bytes = new Uint8Array(left.length + value.length);
      bytes.set(left);
      bytes.set(value, left.length);
      const count = bytes.length >> 1, view = new DataView(bytes.buffer);
      left = bytes.slice(2 * count);
      if (!count) continue;
      const buffer = ears.createBuffer(1, count, rate), samples = buffer.getChannelData(0), source = ears.createBufferSource();
      for (let i = 0; i < count; i += 1) samples[i] = view.getInt16(2 * i, true) / 32768;
      source.buffer = buffer;
      source.connect(ears.destination);
      // What came too late is played from now on again, a little behind.
      if (due < ears.currentTime) due = ears.currentTime + AHEAD;
      source.start(due);
      due += buffer.duration;
      heard += buffer.duration;
      this.button.dataset.heard = heard.toFixed(1);
    }
    if (!stopped.signal.aborted) this.stop();
  }
}
