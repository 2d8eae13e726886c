// Alarms: the inbox, or one opened: picture, sound, neighbours, and what to do.

import { alarmActions, ask } from "./actions.js";
import { command, get } from "./api.js";
import { JoinCard } from "./bank.js";
import { el, length, moment, number } from "./dom.js";
import { Graph } from "./graph.js";
import { Inbox, path } from "./inbox.js";
import { LEGEND, Picture } from "./picture.js";
import { describeEvent, standing } from "./words.js";

export class AlarmsView {
  constructor(feed, machine, rest, asked) {
    this.feed = feed;
    this.machine = machine;
    this.only = asked ? machine : ""; // a machine in the address: its alarms alone
    this.open = rest[0] || null;
    this.stopped = new AbortController();
  }

  show(root) {
    this.root = el("div", { class: "stackup" });
    root.append(this.root);
    if (!this.open) {
      this.inbox = new Inbox(this.feed, { machine: this.only });
      return this.inbox.show(this.root);
    }
    this.feed.addEventListener("told", ({ detail }) => {
      if (detail.machine === this.machine && (detail.kind === "event" || detail.kind === "alarm")) this.soon();
    }, { signal: this.stopped.signal });
    return this.draw();
  }

  hide() {
    this.stopped.abort();
    this.inbox?.hide();
    this.join?.stop();
    clearTimeout(this.timer);
  }

  // Evidence is written a moment after its event.
  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.draw(), 700);
  }

  async draw() {
    try {
      await this.detail();
    } catch (fault) {
      if (!this.stopped.signal.aborted) this.root.replaceChildren(el("p", { class: "card", role: "alert" }, fault.message, " ", el("a", { href: "#alarms" }, "All alarms")));
    }
  }

  async detail() {
    const found = await get(`alarms/${encodeURIComponent(this.machine)}/${encodeURIComponent(this.open)}`);
    if (this.stopped.signal.aborted) return;
    const key = JSON.stringify(found);
    if (key === this.known) return; // what is being played goes on
    this.known = key;
    const { summary, record, feedback, neighbours, events } = found, base = `api/${path(summary)}`;
    const answered = feedback && feedback.verdict;
    const buttons = el("div", { class: "row" }, summary.standing ? alarmActions(this.machine, summary.standing) : [],
      record && !(feedback && feedback.accepted) ? [["normal", "That was normal"], ["anomalous", "That was real"]].map(([verdict, words]) =>
        el("button", { type: "button", "data-for": "operator", "aria-pressed": String(answered === verdict), "data-act": verdict, onclick: () => this.answer(verdict, words) }, words)) : [],
      record ? el("a", { class: "button", href: `${base}/evidence.zip`, download: "" }, "Export (zip)") : []);
    const facts = [["Stood", stood(summary)],
      ["Score", `${number(summary.score)}${summary.zone ? `, zone ${summary.zone}` : ""} (1 is the threshold; raw ${number(summary.raw_score)} of ${number(summary.raw_threshold)})`], ["Why", summary.text || "not known"], ["Id", summary.alarm_id]];
    if (feedback) facts.push(["Answered", `${feedback.verdict}${feedback.by ? ` by ${feedback.by}` : ""}${feedback.comment ? `: “${feedback.comment}”` : ""}${feedback.accepted ? `; in the bank since version ${feedback.accepted}` : ""}`]);
    if (record && record.lost.length) facts.push(["Lost sound", record.lost.map((gap) => `${gap.seconds.toFixed(1)} s at ${gap.at.toFixed(1)} s`).join(", ")]);
    if (record && record.speech.length) facts.push(["Speech", `taken out: ${record.speech.map((one) => `${one.seconds.toFixed(1)} s at ${one.at.toFixed(1)} s`).join(", ")} (found by ${record.speech_by === "detector" ? "a detector" : "its rhythm"})`]);
    const waits = feedback?.verdict === "normal" && !feedback.accepted && record?.windows.some((one) => one.whole && one.score !== null);
    this.join?.stop();
    this.join = waits ? new JoinCard(this.machine, this.open, () => this.draw()) : null;
    const list = el("dl", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    this.root.replaceChildren(
      el("p", {}, el("a", { href: "#alarms" }, "← All alarms")),
      el("section", { class: "card", "aria-labelledby": "h-alarm" }, el("header", {}, el("h2", { id: "h-alarm" }, summary.asked ? "A window that was spoken of" : `Alarm of ${moment(summary.raised)}`), standing(summary)), buttons, list),
      this.join ? this.join.node : el("div", { hidden: true }),
      record ? this.evidence(record, base, neighbours) : el("section", { class: "card" }, el("p", { class: "dim" }, "No sound of it is kept (evidence is off, the disk was too full, or it is older than what is kept).")),
      events.length ? el("section", { class: "card" }, el("header", {}, el("h2", {}, "What happened to it")), el("ul", { class: "list" }, events.map((message) => describeEvent({ message })))) : el("div", { hidden: true }),
    );
    if (record) this.graph(record, found.scores);
  }

  evidence(record, base, neighbours) {
    const stamp = `?of=${encodeURIComponent(record.seconds)}`; // longer once more of it was heard
    const bands = record.explanation ? record.explanation.bands : [];
    const says = bands.length ? `Unusual: ${bands.map((band) => `${Math.round(band.low_hz)} to ${Math.round(band.high_hz)} Hz, ${band.decibels > 0 ? "+" : ""}${band.decibels} dB`).join("; ")}` : "";
    this.chart = el("div", { class: "chart small", role: "application", "aria-label": "Score of each window in this sound; arrow keys read it", "aria-describedby": "clip-read" });
    this.read = el("output", { id: "clip-read" });
    return el("div", { class: "two" },
      el("section", { class: "card", "aria-labelledby": "h-sound" }, el("header", {}, el("h2", { id: "h-sound" }, "What was heard")),
        new Picture({ src: `${base}/spectrogram.png${stamp}`, seconds: record.seconds, rate: record.rate, start: Date.parse(record.sound_start) / 1000, mark: record.raised_at,
          alt: `Spectrogram of ${record.seconds.toFixed(0)} seconds; the alarm was raised ${record.raised_at.toFixed(1)} s from its start. ${says}` }).node,
        el("p", { class: "dim" }, `Upright line: the alarm was raised. ${record.unusual ? "Framed: what is new against healthy sound; dropouts, clicks and lost sound are not" : "This bundle has no healthy spectrum to frame regions with"}; ${LEGEND}.`, record.complete ? "" : " More is being recorded."),
        says ? el("p", {}, says) : record.unusual ? el("p", { class: "dim" }, "No band stands out by itself.") : null,
        record.sound === "none" ? el("p", { class: "dim" }, "No sound is kept of alarms (evidence.sound is none).")
          : el("audio", { controls: true, preload: "metadata", src: `${base}/sound.flac${stamp}`, "aria-label": "The sound of the alarm" }), this.chart, this.read),
      el("section", { class: "card", "aria-labelledby": "h-near" }, el("header", {}, el("h2", { id: "h-near" }, "The nearest healthy sound")),
        neighbours.length ? neighbours.map((near, i) => neighbour(near, base, record, neighbours.slice(0, i))) : el("p", { class: "dim" }, "Not known: this bundle's scorer has no nearest recording.")));
  }

  graph(record, scores) {
    const start = Date.parse(record.sound_start) / 1000, windows = record.windows, time = windows.map((one) => start + one.start + one.seconds);
    const graph = new Graph(this.chart, this.read, { middle: "score", threshold: "threshold" });
    graph.show({ begin: start, end: start + record.seconds, step: 1, time, score: scores, threshold: windows.map(() => 1),
      level: windows.map((one) => (one.exceeded ? "alert" : "normal")), state: windows.map(() => ""), invalid: windows.map((one) => (one.validity === "valid" ? "" : one.validity)) });
  }

  answer(verdict, words) {
    const comment = el("input", { maxlength: 1000, name: "comment" });
    ask(words, verdict === "normal" ? "Step 1 of 2. Its sound can join the memory bank then, at once if you like." : "It is then held against every change of the bank: none may silence it.",
      [el("label", {}, "Comment", comment)], async () => {
        await command("feedback", this.machine, { alarm_id: this.open, verdict, comment: comment.value });
        await this.draw();
        this.join?.node.scrollIntoView({ block: "center" });
        this.join?.button.focus();
      }, words);
  }
}

function neighbour(near, base, record, before) {
  const place = `${base}/neighbours/${near.index}`;
  const about = el("h3", {}, near.source, el("span", { class: "dim" }, near.start === null ? "" : ` at ${near.start} s`, near.distance === null ? "" : ` · distance ${number(near.distance)}`));
  if (!near.here) return el("div", {}, about, el("p", { class: "dim" }, "Recorded elsewhere, and this bundle carries no sound like it: listen to it on the workstation, in the training folder."));
  // The bundle carries few windows: the likest of several may be one and the same.
  if (near.likest && before.some((one) => (one.likest || one.source) === near.likest)) return el("div", {}, about, el("p", { class: "dim" }, `Recorded elsewhere; the likest sound that the bundle carries is the one above, from ${near.likest}.`));
  const instead = near.played === "likest" ? el("p", { class: "dim" }, `Recorded elsewhere. Played in its place: the likest healthy sound that the bundle carries, from ${near.likest}.`) : null;
  return el("div", {}, about, instead, new Picture({ src: `${place}/spectrogram.png`, seconds: record.windows[record.windows.length - 1].seconds, rate: record.rate, alt: `Spectrogram of the healthy recording ${near.likest || near.source}` }).node,
    el("audio", { controls: true, preload: "none", src: `${place}/sound.flac`, "aria-label": `Healthy sound: ${near.likest || near.source}` }));
}

// From when to when, said once.
function stood({ raised, cleared, standing: now, asked }) {
  if (asked) return `a window of ${moment(raised)}`;
  if (now) return `since ${moment(raised)}${now.latched ? "; it sounds healthy again and waits to be acknowledged" : "; it stands"}`;
  if (!cleared) return `from ${moment(raised)}; when it ended is not known`;
  return `${moment(raised)} to ${moment(cleared)} (${length((Date.parse(cleared) - Date.parse(raised)) / 1000)})`;
}
