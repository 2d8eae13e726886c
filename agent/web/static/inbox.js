// The alarms of all machines, the latest first: filtered, with a thumbnail, and heard where one stands.

import { get } from "./api.js";
import { el, moment, number } from "./dom.js";
import { standing } from "./words.js";

const STATES = { any: "any state", standing: "standing", unacknowledged: "not acknowledged", unanswered: "not answered", answered: "answered", over: "over" };
const TIMES = { ever: ["at any time", null], day: ["the last day", 86400], week: ["the last week", 7 * 86400], month: ["the last month", 31 * 86400] };

// The sound of an alarm goes on for a while, and is written then: so often, and each so many ms, it is looked for.
const LOOKS = 30, LOOK_MS = 3000;

export const path = (one) => `alarms/${encodeURIComponent(one.machine)}/${encodeURIComponent(one.alarm_id)}`;

export class Inbox {
  // `few`: at most so many, without filters, those not answered; else all of it.
  constructor(feed, { machine = "", few = 0 } = {}) {
    this.feed = feed;
    this.few = few;
    this.wanted = { machine, state: few ? "unanswered" : "any", time: "ever" };
    this.stopped = new AbortController();
    this.looks = LOOKS;
  }

  show(root) {
    const several = Object.keys(this.feed.state.machines).length > 1;
    const choose = (name, label, options) => el("label", {}, label, el("select", { name, onchange: (event) => {
      this.wanted[name] = event.target.value;
      this.draw();
    } }, options.map(([value, words]) => el("option", { value, selected: value === this.wanted[name] }, words))));
    const filters = this.few ? el("a", { href: "#alarms" }, "All alarms") : el("div", { class: "row", role: "group", "aria-label": "Which alarms" },
      several ? choose("machine", "Machine", [["", "all"], ...Object.keys(this.feed.state.machines).map((name) => [name, name])]) : null,
      choose("state", "State", Object.entries(STATES)), choose("time", "Raised", Object.entries(TIMES).map(([name, [words]]) => [name, words])));
    this.body = el("div", {}, el("p", { class: "dim" }, "Looking…"));
    this.count = el("span", { class: "dim", role: "status" });
    root.append(el("section", { class: "card", "aria-labelledby": "h-alarms" },
      el("header", {}, el("h2", { id: "h-alarms" }, this.few ? "Alarms not answered yet" : "Alarms, the latest first"), this.count, filters), this.body));
    this.feed.addEventListener("told", ({ detail }) => (detail.kind === "event" || detail.kind === "alarm") && this.soon(), { signal: this.stopped.signal });
    this.draw();
  }

  hide() {
    this.stopped.abort();
    clearTimeout(this.timer);
  }

  // Evidence is written a moment after its event.
  soon() {
    this.looks = LOOKS;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.draw(), 700);
  }

  async draw() {
    const query = new URLSearchParams({ state: this.wanted.state }), seconds = TIMES[this.wanted.time][1];
    if (this.wanted.machine) query.set("machine", this.wanted.machine);
    if (seconds) query.set("since", Math.round(Date.now() / 1000 - seconds));
    try {
      const { alarms } = await get(`alarms?${query}`);
      if (this.stopped.signal.aborted) return;
      if (alarms.length && !alarms[0].evidence && this.looks-- > 0) {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.draw(), LOOK_MS);
      }
      const key = JSON.stringify(alarms);
      if (key === this.known) return; // what is being played goes on
      this.known = key;
      const shown = this.few ? alarms.slice(0, this.few) : alarms;
      this.count.textContent = alarms.length ? `${shown.length < alarms.length ? `${shown.length} of ` : ""}${alarms.length}` : "";
      this.body.replaceChildren(alarms.length ? el("ul", { class: "inbox", id: "alarms" }, shown.map((one) => entry(one)))
        : el("p", { class: "dim" }, this.few ? "None: every alarm is answered." : "None here: nothing was heard that would be one, or the filters leave it out."));
    } catch (fault) {
      if (!this.stopped.signal.aborted) this.body.replaceChildren(el("p", { role: "alert" }, fault.message));
    }
  }
}

function entry(one) {
  const place = path(one), sound = el("div", { class: "sound" });
  if (one.evidence) {
    // Fetched when somebody wants to hear it, not with the list.
    const button = el("button", { type: "button", "aria-label": `Play the alarm of ${one.machine}, ${moment(one.raised)}`, onclick: () => {
      const player = el("audio", { controls: true, autoplay: true, src: `api/${place}/sound.flac`, "aria-label": `The sound of the alarm of ${one.machine}` });
      player.addEventListener("error", () => sound.replaceChildren(el("span", { class: "dim" }, "No sound is kept of it.")));
      sound.replaceChildren(player);
      player.focus();
    } }, "▶ Play");
    sound.append(button);
  }
  const thumb = one.evidence ? el("img", { class: "thumb", loading: "lazy", src: `api/${place}/thumbnail.png`, width: 180, height: 64, alt: "" }) : el("span", { class: "thumb none" }, "no picture");
  return el("li", { "data-machine": one.machine }, el("div", { class: "picture", onclick: () => { location.hash = place; } }, thumb),
    el("div", { class: "what" },
      el("p", {}, el("a", { href: `#${place}` }, el("strong", {}, one.machine), `, ${moment(one.raised)}`), " ", standing(one)),
      el("p", { class: "dim" }, [one.score === null ? "" : `score ${number(one.score)}${one.zone ? `, zone ${one.zone}` : ""}`, one.text.split("; nearest healthy")[0], one.verdict ? `answered ${one.verdict}${one.accepted ? `, in version ${one.accepted}` : ""}` : ""].filter(Boolean).join(" · "))),
    sound);
}
