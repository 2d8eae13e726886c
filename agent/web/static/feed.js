// The stream of the device: one connection, many listeners.

import { get } from "./api.js";

export class Feed extends EventTarget {
  constructor() {
    super();
    this.state = { number: 0, machines: {}, events: [] };
    this.health = null;
    this.sound = null;
    this.source = null;
  }

  async begin() {
    this.state = await get("state");
    this.say("state", this.state);
    this.listen();
  }

  // Hear a machine's microphone, or none.
  hear(machine) {
    if (this.sound === machine) return;
    this.sound = machine;
    if (this.source) this.listen();
  }

  end() {
    if (this.source) this.source.close();
    this.source = null;
  }

  listen() {
    if (this.source) this.source.close();
    const query = new URLSearchParams({ after: this.state.number });
    if (this.sound) query.set("sound", this.sound);
    const source = new EventSource(`api/stream?${query}`);
    this.source = source;
    source.onopen = () => this.say("link", true);
    source.onerror = () => {
      this.say("link", false);
      // The browser tries again by itself, unless it was turned away.
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        setTimeout(() => this.source === source && this.begin().catch(() => this.source === source && this.listen()), 3000);
      }
    };
    source.addEventListener("told", (event) => this.take(JSON.parse(event.data)));
    source.addEventListener("sound", (event) => this.say("sound", JSON.parse(event.data)));
    source.addEventListener("health", (event) => {
      this.health = JSON.parse(event.data);
      this.say("health", this.health);
    });
    source.addEventListener("reset", () => this.begin().catch(() => {}));
  }

  take(told) {
    this.state.number = told.number;
    if (told.kind === "event") {
      this.state.events.push(told);
      this.state.events.splice(0, this.state.events.length - 100);
    } else if (this.state.machines[told.machine]) {
      this.state.machines[told.machine][told.kind] = told.message;
    }
    this.say("told", told);
  }

  say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
