// Why was there no alarm? What was heard in a stretch, its score, and what held an alarm back.

import { act, command, get } from "./api.js";
import { el, length, moment, number, text } from "./dom.js";
import { Graph } from "./graph.js";

const RANGES = [["hour", 3600], ["day", 86400], ["month", 31 * 86400], ["year", 366 * 86400]];
const LATELY = [["10 minutes", 600], ["hour", 3600], ["day", 86400], ["week", 7 * 86400]];

export class WhyView {
  constructor(feed, machine, rest) {
    this.feed = feed;
    this.machine = machine;
    const now = Date.now() / 1000, [begin, end] = rest.map(Number);
    this.end = end > 0 && end < 1e11 ? end : now;
    this.begin = begin > 0 && begin < this.end ? begin : this.end - 600;
    this.stopped = new AbortController();
    this.asked = 0;
  }

  show(root) {
    this.from = el("input", { type: "datetime-local", step: 1, name: "from", required: true });
    this.to = el("input", { type: "datetime-local", step: 1, name: "to", required: true });
    const form = el("form", { class: "row", id: "why", onsubmit: act(async () => {
      const begin = Date.parse(this.from.value) / 1000, end = Date.parse(this.to.value) / 1000;
      if (!(begin < end)) throw new Error("The stretch ends before it begins.");
      Object.assign(this, { begin, end });
      await this.draw();
      return null;
    }) }, el("label", {}, "From", this.from), el("label", {}, "to", this.to), el("button", { class: "main", type: "submit" }, "Why?"),
    el("div", { class: "row", role: "group", "aria-label": "A stretch that ends now" }, LATELY.map(([words, seconds]) => el("button", { type: "button", onclick: act(async () => {
      this.end = Date.now() / 1000;
      this.begin = this.end - seconds;
      await this.draw();
      return null;
    }) }, `Last ${words}`))));
    this.answer = el("div", { id: "answer", role: "status" });
    const chart = el("div", { class: "chart", id: "why-score", role: "application", "aria-label": "Score in this stretch; arrow keys read it", "aria-describedby": "why-read" });
    const read = el("output", { id: "why-read" });
    this.events = el("ul", { class: "list" });
    this.happened = el("section", { class: "card", "aria-labelledby": "h-happened" }, el("header", {}, el("h2", { id: "h-happened" }, "What was told in it")), this.events);
    root.append(
      el("section", { class: "card", "aria-labelledby": "h-why" }, el("header", {}, el("h2", { id: "h-why" }, "Why was there no alarm?")), form, this.answer),
      el("section", { class: "card", "aria-labelledby": "h-why-score" }, el("header", {}, el("h2", { id: "h-why-score" }, "Score against threshold")), chart, read,
        el("ul", { class: "legend" }, el("li", {}, "dashed: 1, the alarm threshold"), el("li", {}, "strips below: alarm (tall), alert (low); then idle (full), not judged (hatched)"))), this.happened);
    this.graph = new Graph(chart, read, { low: "least", middle: "mean", high: "most", threshold: "threshold" });
    this.draw();
  }

  hide() {
    this.stopped.abort();
  }

  async draw() {
    this.asked += 1;
    const mine = this.asked, { begin, end, machine } = this;
    this.from.value = local(begin);
    this.to.value = local(end);
    history.replaceState(null, "", `#why/${encodeURIComponent(machine)}/${Math.round(begin)}/${Math.round(end)}`);
    // By the second while that is kept: of the hour that ends now, without an end.
    const lately = begin > Date.now() / 1000 - 3500 ? "" : `&end=${Math.round(end)}`;
    const range = (RANGES.find(([, seconds]) => seconds >= end - begin) || RANGES[3])[0];
    try {
      const [{ result }, past] = await Promise.all([command("why", machine, { begin, end }),
        get(`machines/${encodeURIComponent(machine)}/history?range=${lately ? range : "hour"}${lately}`)]);
      if (mine !== this.asked || this.stopped.signal.aborted) return;
      this.say(result);
      this.graph.show(within(past, begin, end));
    } catch (fault) {
      if (!this.stopped.signal.aborted) this.answer.replaceChildren(el("p", { role: "alert" }, fault.message));
    }
  }

  say(found) {
    const asked = found.end - found.begin;
    const facts = [["Heard", share(found.heard_seconds, asked)], ["Judged", share(found.judged_seconds, asked)], ["Idle", found.idle_seconds ? `${share(found.idle_seconds, asked)}: counts neither way` : "never"],
      ["Not judged", found.invalid.length ? found.invalid.map((one) => one.replaceAll("_", " ")).join(", ") : "nothing"],
      ["Highest score", found.most === null ? "nothing was scored" : `${number(found.most)}, where 1 is the threshold`],
      ["Above it", found.exceeded_seconds ? `${span(found.exceeded_seconds)}, at most ${span(found.evidence_seconds)} close together` : "never"], ["Level", found.level]];
    this.answer.replaceChildren(el("p", { class: "verdict" }, here(found.verdict), "."), el("ul", { id: "why-held" }, found.held.map((one) => el("li", {}, here(one), "."))),
      el("dl", { id: "why-facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
    this.happened.hidden = !found.events.length;
    this.events.replaceChildren(...found.events.map((one) => el("li", {}, here(one))));
    text(document.getElementById("h-why"), `Why no alarm? ${moment(new Date(this.begin * 1000).toISOString())} to ${moment(new Date(this.end * 1000).toISOString())}`);
  }
}

// The device says times in UTC; people here have their own.
const here = (words) => words.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (iso) => moment(iso));

const span = (seconds) => (seconds < 3600 ? `${Math.round(seconds)} s` : length(seconds));

const share = (seconds, of) => `${span(seconds)} of ${span(of)}`;

function local(seconds) {
  const date = new Date(Math.round(seconds) * 1000);
  return new Date(date - 60000 * date.getTimezoneOffset()).toISOString().slice(0, 19);
}

function within(past, begin, end) {
  const kept = past.time.map((time) => time >= begin && time < end), found = { ...past, begin, end };
  for (const [name, values] of Object.entries(past)) if (Array.isArray(values)) found[name] = values.filter((_, i) => kept[i]);
  return found;
}
