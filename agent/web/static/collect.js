// Recording labelled sound, letting it join the bank, and the way to a bundle of one's own.

import { ask } from "./actions.js";
import { act, command, get, send } from "./api.js";
import { askJoin, jobWords } from "./bank.js";
import { bytes, el, length, moment, notice, number, text } from "./dom.js";
import { Meter } from "./sound.js";
import { learningWords, stateWords } from "./words.js";

const LABELS = { healthy: "healthy: it runs in good order", idle: "idle: it stands still", noise: "noise: its surroundings alone" };

export class CollectView {
  constructor(feed, machine) {
    this.feed = feed;
    this.machine = machine;
    this.place = encodeURIComponent(machine);
    this.stopped = new AbortController();
    this.chosen = new Set();
    this.healthySeconds = 0;
    this.learning = false;
  }

  show(root) {
    const meter = el("canvas", { class: "meter", role: "meter", "aria-label": "Level of the microphone", "aria-valuemin": -90, "aria-valuemax": 0, "aria-valuenow": -90 });
    const level = el("span", { class: "dim figure" }, "waiting for sound");
    this.valid = el("p", { class: "dim", role: "status" });
    this.progress = el("div", { "aria-live": "polite" });
    this.sessions = el("section", { class: "card", "aria-labelledby": "h-sessions" });
    this.bank = el("section", { class: "card", "aria-labelledby": "h-bank" });
    root.append(
      el("section", { class: "card", "aria-labelledby": "h-record" }, el("header", {}, el("h2", { id: "h-record" }, "Record"), level), meter, this.valid, this.form(), this.progress),
      this.sessions, this.bank, this.loop());
    this.meter = new Meter(meter, level);
    const on = (name, work) => this.feed.addEventListener(name, (event) => work(event.detail), { signal: this.stopped.signal });
    on("sound", (heard) => heard.machine === this.machine && this.meter.take(heard));
    on("health", () => this.judge());
    on("told", (told) => told.machine === this.machine && told.kind === "score" && this.judge());
    this.feed.hear(this.machine);
    this.judge();
    this.draw();
    this.timer = setInterval(() => document.hidden || this.draw(), 3000);
  }

  hide() {
    this.stopped.abort();
    clearInterval(this.timer);
    this.feed.hear(null);
  }

  judge() {
    const { score } = this.feed.state.machines[this.machine] || {};
    const state = score && !this.learning ? stateWords(score) : learningWords(this.feed.health?.machines[this.machine]);
    text(this.valid, `Latest window: ${state.sign} ${state.words}${state.why ? `, ${state.why}` : ""}`);
  }

  form() {
    const label = el("select", { name: "label" }, Object.entries(LABELS).map(([value, words]) => el("option", { value }, words)));
    const seconds = el("input", { name: "seconds", type: "number", min: 2, max: 86400, value: 600, required: true });
    const time = el("input", { name: "schedule", type: "time" });
    const times = el("input", { name: "times", type: "number", min: 1, max: 3660, value: 7 });
    const comment = el("input", { name: "comment", maxlength: 1000 });
    return el("form", { class: "row", id: "record", "data-for": "operator", onsubmit: act(async () => {
      const fields = { label: label.value, seconds: Number(seconds.value), comment: comment.value };
      if (time.value) Object.assign(fields, { schedule: time.value, times: Number(times.value) });
      const { result } = await command("collect", this.machine, fields);
      await this.draw();
      if (result.warning) notice(`Recording. But ${result.warning}.`, true);
      return result.warning ? null : time.value ? "Scheduled." : "Recording.";
    }) }, el("label", {}, "What is heard", label), el("label", {}, "Seconds", seconds), el("label", {}, "Comment", comment),
    el("details", {}, el("summary", {}, "Every day instead"), el("div", { class: "row" }, el("label", {}, "at (this device's clock)", time), el("label", {}, "on so many days", times))),
    el("button", { class: "main", type: "submit" }, "Record"));
  }

  async draw() {
    try {
      const [collected, setup] = await Promise.all([get(`collected/${this.place}`), get(`machines/${this.place}/setup`)]);
      const first = setup.missing.includes("bundle"), bank = first ? null : await get(`banks/${this.place}`);
      if (this.stopped.signal.aborted) return;
      this.healthySeconds = collected.sessions.reduce((sum, { session }) => sum + (session.label === "healthy" ? session.kept_seconds : 0), 0);
      this.learning = first;
      this.judge();
      const key = JSON.stringify([collected.sessions, collected.schedules, bank, setup.commands]);
      if (key === this.known) return; // what is being played or pressed stays
      this.known = key;
      this.running(collected);
      this.list(collected);
      this.bank.hidden = first;
      if (bank) this.banks(bank);
      text(this.commands, setup.commands.join("\n").replaceAll("HOST", location.hostname));
    } catch (fault) {
      text(this.progress, fault.message);
    }
  }

  running(collected) {
    const now = collected.sessions.find((one) => one.recording);
    const plans = collected.schedules.map((one) => el("p", {}, `Every day at ${one.at}, ${one.times} more times: ${length(one.order.seconds)} ${one.order.label} `,
      el("button", { type: "button", "data-for": "operator", onclick: act(() => command("collect_cancel", this.machine, { schedule: one.name }).then(() => this.draw())) }, "Take back")));
    const parts = [];
    if (now) {
      const { session } = now, lost = session.discarded.reduce((sum, one) => sum + one.seconds, 0);
      parts.push(el("div", { class: "row", id: "running" }, el("span", { class: "badge alarm" }, "● recording"), el("span", { class: "figure" }, `${Math.round(session.heard_seconds)} of ${Math.round(session.asked_seconds)} s ${session.label}${lost ? `, ${lost.toFixed(0)} s left out (${session.discarded[session.discarded.length - 1].reason})` : ""}`),
        el("progress", { max: session.asked_seconds, value: session.heard_seconds, "aria-label": "Recorded" }),
        el("button", { type: "button", "data-for": "operator", id: "stop", onclick: act(() => command("collect_cancel", this.machine).then(() => this.draw()).then(() => "Stopped; what was heard is kept.")) }, "Stop")));
    }
    this.progress.replaceChildren(...parts, ...plans);
  }

  list({ sessions, free_bytes: free }) {
    const kept = sessions.filter((one) => !one.recording);
    this.chosen = new Set([...this.chosen].filter((name) => kept.some((one) => one.session.session === name)));
    const add = el("button", { type: "button", "data-for": "admin", class: "main", id: "add", disabled: !this.chosen.size, onclick: () => this.join([...this.chosen], []) }, "Add the chosen to the bank");
    const rows = kept.map(({ session, bytes: size, in_bank: joined }) => {
      const name = session.session, lost = session.discarded.reduce((sum, one) => sum + one.seconds, 0);
      const levels = session.segments.map((one) => one.level_dbfs);
      const player = el("audio", { controls: true, preload: "none", src: session.segments.length ? `api/collected/${this.place}/${name}/${session.segments[0].file}` : null, "aria-label": `Sound of ${session.label} session ${moment(session.started)}` });
      const files = session.segments.length > 1 ? el("select", { "aria-label": "File", onchange: (event) => { player.src = `api/collected/${this.place}/${name}/${event.target.value}`; } }, session.segments.map((one) => el("option", { value: one.file }, `${moment(one.start)}, ${one.seconds.toFixed(0)} s`))) : null;
      return el("tr", {},
        cell("Choose", joined ? "in the bank" : el("input", { type: "checkbox", "aria-label": `Choose session of ${moment(session.started)}`, checked: this.chosen.has(name), onchange: (event) => {
          if (event.target.checked) this.chosen.add(name);
          else this.chosen.delete(name);
          add.disabled = !this.chosen.size;
        } })),
        cell("Started", `${moment(session.started)}${session.by ? `, ${session.by}` : ""}${session.comment ? ` “${session.comment}”` : ""}`),
        cell("Label", el("span", { class: "badge quiet" }, session.label)),
        cell("Kept", `${session.kept_seconds.toFixed(0)} s${lost ? `; ${lost.toFixed(0)} s left out: ${session.discarded[0].reason}` : ""}${session.ended ? `; ${session.ended}` : ""}${session.notes.map((note) => `; ${note}`).join("")}`),
        cell("Level", levels.length ? `${Math.min(...levels).toFixed(0)} to ${Math.max(...levels).toFixed(0)} dBFS` : "–"),
        cell("Listen", el("div", {}, player, files)),
        cell("", el("button", { type: "button", "data-for": "admin", class: "danger", "aria-label": `Delete session of ${moment(session.started)}`, onclick: () => ask("Delete this sound?", `${session.kept_seconds.toFixed(0)} s of ${session.label} sound, ${bytes(size)}. It cannot be brought back${joined ? "; the bank keeps its rows" : ""}.`, [], async () => {
          await send(`collected/${this.place}/${name}`, undefined, "DELETE");
          await this.draw();
        }, "Delete") }, "Delete")));
    });
    this.sessions.replaceChildren(el("header", {}, el("h2", { id: "h-sessions" }, "Collected sound"), el("span", { class: "dim" }, `${bytes(free)} free`),
      rows.length ? el("a", { class: "button", href: `api/collected/${this.place}/training.zip`, download: "" }, "Download as training folder (zip)") : null),
    rows.length ? el("div", { class: "scroll" }, el("table", { class: "stack", id: "sessions" }, el("thead", {}, el("tr", {}, ["Choose", "Started", "Label", "Kept", "Level", "Listen", ""].map((title) => el("th", { scope: "col" }, title || el("span", { class: "unseen" }, "Action"))))), el("tbody", {}, rows))) : el("p", { class: "dim" }, "Nothing yet. Record the healthy machine on several days, at every load."),
    rows.length && !this.learning ? add : "");
  }

  join(sessions, alarms) {
    askJoin(this.machine, sessions, alarms, () => this.draw());
  }

  banks({ versions, pending, job, bundle, report }) {
    const busy = job && job.state === "working";
    const rows = versions.map((one) => el("tr", {}, cell("Version", `${one.version}${one.chosen ? " ✓ in use" : ""}`), cell("Created", one.created ? moment(one.created) : "–"), cell("Threshold", number(one.threshold, 4), "number"), cell("Change", one.change),
      cell("", one.chosen ? "" : el("button", { type: "button", "data-for": "admin", disabled: busy, onclick: act(() => send(`banks/${this.place}/use`, { version: one.version }).then(() => this.draw()).then(() => `Version ${one.version} is taken into use within seconds.`)) }, "Use"))));
    const waiting = pending.map((one) => el("p", {}, `Alarm of ${moment(one.raised)} was called normal${one.by ? ` by ${one.by}` : ""}${one.comment ? `: “${one.comment}”` : ""} `, el("button", { type: "button", "data-for": "admin", disabled: busy, onclick: () => this.join([], [one.alarm_id]) }, "Add its windows")));
    this.bank.replaceChildren(el("header", {}, el("h2", { id: "h-bank" }, "Memory bank"),
      versions.some((one) => one.chosen && one.version) ? el("button", { type: "button", "data-for": "admin", id: "rollback", disabled: busy, onclick: act(() => send(`banks/${this.place}/rollback`, undefined).then(() => this.draw()).then(() => "Gone back.")) }, "Roll back") : null),
    el("p", { role: "status", id: "job" }, jobWords(job)),
    ...waiting, el("div", { class: "scroll" }, el("table", { class: "stack", id: "versions" }, el("thead", {}, el("tr", {}, ["Version", "Created", "Threshold", "Change", ""].map((title) => el("th", { scope: "col" }, title || el("span", { class: "unseen" }, "Action"))))), el("tbody", {}, rows))),
    el("p", { class: "dim" }, "Bundle as exported: ", el("code", {}, bundle)),
    ...(report ? [el("details", { id: "report" }, el("summary", {}, `Follows report ${report.number}, ${report.system}${report.title ? `: ${report.title}` : ""}`),
      [["Otherwise than the report", report.deviations], ["The report does not say", report.chosen]].filter(([, texts]) => texts.length).map(([title, texts]) => el("div", {}, el("h3", {}, title), el("ul", {}, texts.map((text) => el("li", {}, text))))))] : []));
  }

  loop() {
    this.commands = el("pre", { tabindex: 0, role: "region", "aria-label": "Commands for the workstation" });
    return el("section", { class: "card", "aria-labelledby": "h-loop" }, el("header", {}, el("h2", { id: "h-loop" }, "Train on a workstation"),
      el("button", { type: "button", onclick: act(async () => {
        await navigator.clipboard.writeText(this.commands.textContent);
        return "Copied.";
      }) }, "Copy")),
    el("p", {}, "Download the training folder above, then, on the workstation:"), this.commands,
    el("p", { class: "dim" }, "The agent finds the new bundle by itself, verifies it and takes it up between two windows; the live page tells when it did."));
  }
}

function cell(label, content, kind = "") {
  return el("td", { "data-label": label, class: kind || null }, el("span", {}, content));
}
