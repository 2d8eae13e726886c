// A machine that is not judged yet: its microphone, that it hears, sound to learn from, its bundle.

import { act, get, send } from "./api.js";
import { CollectView } from "./collect.js";
import { el, text } from "./dom.js";
import { LearnCard } from "./learn.js";
import { Spectrogram } from "./sound.js";
import { UploadCard } from "./upload.js";

export class SetupView {
  constructor(feed, machine) {
    this.feed = feed;
    this.machine = machine;
    this.stopped = new AbortController();
    this.rows = new Map();
    this.known = "";
  }

  show(root) {
    this.steps = el("ol", { class: "steps", "aria-label": "Steps to a judged machine" });
    this.ears = el("section", { class: "card", "data-for": "operator", "aria-labelledby": "h-ears" });
    const picture = el("canvas", { class: "spectrogram", role: "img", "aria-label": "Spectrogram of the last minute: time to the right, frequency upwards, bright is loud" });
    root.append(el("section", { class: "card", "aria-labelledby": "h-setup" }, el("h2", { id: "h-setup" }, "Set this machine up"), this.steps), this.ears,
      el("section", { class: "card", "aria-labelledby": "h-hear" }, el("h2", { id: "h-hear" }, "What the microphone hears"), picture));
    this.spectrogram = new Spectrogram(picture);
    this.learn = new LearnCard(this.machine, this.stopped.signal);
    this.collect = new CollectView(this.feed, this.machine);
    this.collect.show(root);
    root.insertBefore(this.learn.node, root.lastElementChild); // before the way by a workstation
    root.append(new UploadCard(this.machine, this.stopped.signal).node);
    const on = (name, work) => this.feed.addEventListener(name, (event) => work(event.detail), { signal: this.stopped.signal });
    on("sound", (heard) => heard.machine === this.machine && !document.hidden && this.spectrogram.take(heard));
    on("health", () => this.draw());
    on("told", (told) => told.machine === this.machine && told.kind === "event" && this.draw());
    this.begin();
  }

  hide() {
    this.stopped.abort();
    this.collect.hide();
  }

  async begin() {
    await this.draw();
    await this.list();
    this.measure();
  }

  async draw() {
    let found;
    try {
      found = await get(`machines/${encodeURIComponent(this.machine)}/setup`);
    } catch (fault) {
      return text(this.steps, fault.message);
    }
    if (this.stopped.signal.aborted) return undefined;
    this.setup = found;
    const { sensor } = this.feed.state.machines[this.machine] || {};
    const health = this.feed.health?.machines[this.machine], sound = this.collect.healthySeconds;
    const hears = found.source !== null && health && health.windows > 0 && sensor?.status !== "failure";
    const steps = [
      [found.source !== null, "Choose the microphone", found.source || "below: tap, clap or speak beside one, and see its level move"],
      [hears, "See that it hears", hears ? (health.validity === "valid" ? "sound fit to learn from" : health.reason) : sensor?.reason || "waiting for sound"],
      [sound >= 600 || !found.missing.includes("bundle"), "Record healthy sound", sound ? `${Math.round(sound / 60)} min so far; ${sound < 600 ? "ten minutes at least, an hour over several days and loads is better" : "more days and loads make it better"}` : "ten minutes at least, while it runs in good order"],
      [!found.missing.includes("bundle"), "Learn it", found.missing.includes("bundle") ? "here, with the button below; or on a workstation: download the training folder and follow the commands. The bundle is taken up by itself" : "a bundle judges this machine"],
    ];
    this.learn.offer(sound);
    const key = JSON.stringify(steps);
    if (key === this.known) return undefined;
    this.known = key;
    const next = steps.findIndex(([done]) => !done);
    this.steps.replaceChildren(...steps.map(([done, title, about], i) => el("li", { class: done ? "done" : null, "aria-current": i === next ? "step" : null },
      el("span", { class: `badge ${done ? "good" : i === next ? "alert" : "quiet"}` }, done ? "✓ done" : i === next ? "▶ next" : "… later"), " ", el("strong", {}, title), el("span", { class: "dim" }, ` ${about}`))));
    if (next < 0) this.steps.append(el("li", { class: "ready" }, el("a", { class: "button main", href: `#live/${encodeURIComponent(this.machine)}` }, "See it judged")));
    for (const [device, row] of this.rows) this.mark(device, row);
    return undefined;
  }

  async list() {
    if (!this.setup || this.stopped.signal.aborted) return;
    const title = el("header", {}, el("h2", { id: "h-ears" }, "Microphone"), this.setup.choosable ? el("button", { type: "button", onclick: act(() => this.list().then(() => null)) }, "Look again") : null);
    if (!this.setup.choosable) {
      this.ears.replaceChildren(title, el("p", {}, "The configuration says: ", el("code", {}, this.setup.source)), el("p", { class: "dim" }, "To choose it here, take the machine's source out of the configuration, and restart the agent."));
      return;
    }
    const { microphones, problem } = await get("microphones").catch((fault) => ({ microphones: [], problem: fault.message }));
    this.rows = new Map(microphones.map((one) => [one.device, this.row(one)]));
    this.ears.replaceChildren(title, problem ? el("p", { class: "dim", role: "status" }, problem) : "",
      el("ul", { class: "list ears", id: "microphones" }, [...this.rows.values()].map((row) => row.node)),
      el("p", { class: "dim" }, "The choice is kept in the agent's state directory; the configuration file is left alone."));
    for (const [device, row] of this.rows) this.mark(device, row);
  }

  row(one) {
    const meter = el("meter", { min: -90, max: 0, low: -60, high: -3, optimum: -20, value: -90, "aria-label": `Level of ${one.name}` });
    const level = el("span", { class: "dim figure" }, "not heard yet");
    const channel = one.channels > 1 ? el("select", { "aria-label": `Channel of ${one.name}` }, el("option", { value: "" }, "all channels"), Array.from({ length: Math.min(one.channels, 8) }, (_, i) => el("option", { value: i }, `channel ${i}`))) : null;
    const use = el("button", { type: "button", "data-for": "admin", "data-device": one.device, onclick: act(async () => {
      const chosen = channel && channel.value !== "" ? Number(channel.value) : null;
      this.setup = await send(`machines/${encodeURIComponent(this.machine)}/microphone`, { device: one.device, channel: chosen });
      await this.draw();
      return `${this.machine} listens to ${one.name} from now on.`;
    }) }, "Use");
    const node = el("li", {}, el("span", {}, el("strong", {}, one.name), one.default ? el("span", { class: "dim" }, " default") : null, el("br"), el("code", {}, one.device), one.usb && one.usb !== one.device ? el("span", { class: "dim" }, ` in ${one.usb}`) : null), meter, level, channel, use);
    return { node, meter, level, use };
  }

  mark(device, row) {
    const mine = this.setup && this.setup.device === device;
    row.use.className = mine ? "main" : "";
    row.use.setAttribute("aria-pressed", String(Boolean(mine)));
    text(row.use, mine ? "✓ in use" : "Use");
  }

  // One after another, for ever: opening a microphone takes its time.
  async measure() {
    while (!this.stopped.signal.aborted) {
      if (document.hidden || !this.rows.size || document.body.dataset.role === "viewer") {
        await new Promise((done) => setTimeout(done, 1000));
        continue;
      }
      for (const [device, row] of [...this.rows]) {
        if (this.stopped.signal.aborted) return;
        try {
          const { levels } = await send("microphones/listen", { device });
          const loudest = levels.reduce((a, b) => (a.rms_dbfs > b.rms_dbfs ? a : b));
          row.meter.value = loudest.rms_dbfs;
          text(row.level, loudest.peak_dbfs <= -199 ? "silent: not one sample moves" : `${loudest.rms_dbfs.toFixed(0)} dBFS, peak ${loudest.peak_dbfs.toFixed(0)}`);
        } catch (fault) {
          row.meter.value = -90;
          text(row.level, fault.message);
        }
        await new Promise((done) => setTimeout(done, 200));
      }
    }
  }
}
