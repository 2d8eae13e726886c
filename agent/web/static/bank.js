// Letting sound join the memory bank, and how that goes.

import { act, get, send } from "./api.js";
import { ask } from "./actions.js";
import { el } from "./dom.js";

const SIGNS = { working: ["quiet", "…"], done: ["good", "✓"], refused: ["alarm", "✖"] };

export function askJoin(machine, sessions, alarms, done) {
  const force = el("input", { name: "force" });
  ask("Add to the bank", "A new version is calculated, checked against all known alarms, and taken into use; the present one stays to go back to.",
    [el("label", {}, "Ids of known alarms that it may silence (leave empty unless it was refused for them)", force)], async () => {
      await send(`banks/${encodeURIComponent(machine)}/add`, { sessions, alarms, force: force.value.split(/[\s,]+/).filter(Boolean) });
      await done();
    }, "Add");
}

export function jobWords(job) {
  if (!job) return [];
  const [kind, sign] = SIGNS[job.state];
  return [el("span", { class: `badge ${kind}` }, `${sign} ${job.state}`), ` ${job.doing}${job.text ? `: ${job.text}` : ""}`];
}

// The second step of "that was normal": at once, on the alarm's own page.
export class JoinCard {
  constructor(machine, alarm, changed) {
    Object.assign(this, { machine, alarm, changed, stopped: false });
    this.job = el("p", { role: "status", id: "join-job" });
    this.button = el("button", { type: "button", "data-for": "admin", class: "main", "data-act": "join", onclick: act(async () => {
      await send(`banks/${encodeURIComponent(machine)}/add`, { sessions: [], alarms: [alarm], force: [] });
      await this.follow();
      return null;
    }) }, "Add its sound to the bank now");
    this.node = el("section", { class: "card tile good", "aria-labelledby": "h-join" }, el("h2", { id: "h-join" }, "Step 2 of 2: let the detector know"),
      el("p", {}, "Until its sound has joined the memory bank, the same sound raises an alarm again. A new version is calculated, held against all known faults, and taken into use; the present one stays to go back to."),
      el("div", { class: "row" }, this.button, el("a", { href: `#collect/${encodeURIComponent(machine)}` }, "With other sound, or later: page “Collect”")), this.job);
  }

  stop() {
    this.stopped = true;
  }

  async follow() {
    for (;;) {
      const { job } = await get(`banks/${encodeURIComponent(this.machine)}`);
      if (this.stopped) return;
      this.job.replaceChildren(...jobWords(job));
      if (!job || job.state !== "working") break;
      await new Promise((after) => { setTimeout(after, 1000); });
    }
    await this.changed();
  }
}
