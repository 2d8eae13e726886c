// The live page: how a machine is, what it sounds like, and how that went.

import { get } from "./api.js";
import { alarmActions, commissionActions, driftActions, levelActions } from "./actions.js";
import { el, moment, number, text } from "./dom.js";
import { Graph } from "./graph.js";
import { Listening } from "./listen.js";
import { Meter, Spectrogram } from "./sound.js";
import { Spectra } from "./spectra.js";
import { deliveryWords, describeEvent, learningWords, LEVELS, louder, SENSOR, signed, stateWords } from "./words.js";

const SPANS = { hour: 3600, day: 86400, month: 31 * 86400, year: 366 * 86400 };

export class LiveView {
  constructor(feed, machine) {
    this.feed = feed;
    this.machine = machine;
    this.range = "hour";
    this.end = null; // null: now
    this.stopped = new AbortController();
    this.asked = 0;
  }

  show(root) {
    const meter = el("canvas", { class: "meter", role: "meter", "aria-label": "Level of the microphone", "aria-valuemin": -90, "aria-valuemax": 0, "aria-valuenow": -90 });
    const picture = el("canvas", { class: "spectrogram", role: "img", "aria-label": "Spectrogram of the last minute: time to the right, frequency upwards, bright is loud" });
    const level = el("span", { class: "dim figure" }, "waiting for sound");
    const score = el("div", { class: "chart", id: "score", role: "application", "aria-label": "Score against threshold; arrow keys read it", "aria-describedby": "score-read" });
    const drift = el("div", { class: "chart small", id: "drift", role: "application", "aria-label": "Drift distance against threshold; arrow keys read it", "aria-describedby": "drift-read" });
    const scoreRead = el("output", { id: "score-read" }), driftRead = el("output", { id: "drift-read" });
    this.tiles = { alarm: tile("Alarm", "wide lead"), state: tile("Machine"), sensor: tile("Microphone"), level: tile("Level", "wide"), delivery: tile("Delivery", "wide"), drift: tile("Drift", "wide lead"), promise: tile("Promise", "wide full") };
    this.ranges = Object.keys(SPANS).map((name) => el("button", { type: "button", "aria-pressed": String(name === this.range), onclick: () => this.choose(name) }, name[0].toUpperCase() + name.slice(1)));
    this.later = el("button", { type: "button", disabled: true, "aria-label": "Later", onclick: () => this.move(1) }, "Later →");
    this.events = el("ul", { class: "list", "aria-live": "polite", "aria-label": "What happened lately" });
    this.spectra = new Spectra(this.machine);
    this.listening = new Listening(this.machine);
    this.driftCard = el("section", { class: "card", "aria-labelledby": "h-drift" },
      el("header", {}, el("h2", { id: "h-drift" }, "Drift of the sound")), drift, driftRead,
      el("ul", { class: "legend" }, el("li", {}, "line: distance to the nearest normal state, nats"), el("li", {}, "dashed: threshold")), this.spectra.node);
    root.append(
      el("div", { class: "tiles" }, Object.values(this.tiles).map((one) => one.node)),
      el("section", { class: "card", "aria-labelledby": "h-sound" }, el("header", {}, el("h2", { id: "h-sound" }, "What the microphone hears"), level, this.listening.button), meter, picture),
      el("section", { class: "card", "aria-labelledby": "h-score" },
        el("header", {}, el("h2", { id: "h-score" }, "Score against threshold"),
          el("div", { class: "row", role: "group", "aria-label": "Stretch shown" }, this.ranges),
          el("div", { class: "row" }, el("button", { type: "button", onclick: () => this.move(-1) }, "← Earlier"), this.later,
            el("button", { type: "button", "data-act": "why", onclick: () => this.why() }, "Why no alarm?"))),
        score, scoreRead,
        el("ul", { class: "legend" }, el("li", {}, "line: mean score; band: least to largest; 0 is the median of healthy sound"), el("li", {}, "dashed: 1, the alarm threshold"), el("li", {}, "strips below: alarm (tall), alert (low); then idle (full), not judged (hatched)"))),
      this.driftCard,
      el("section", { class: "card", "aria-labelledby": "h-events" }, el("header", {}, el("h2", { id: "h-events" }, "What happened lately")), this.events),
    );
    this.meter = new Meter(meter, level);
    this.spectrogram = new Spectrogram(picture);
    this.scores = new Graph(score, scoreRead, { low: "least", middle: "mean", high: "most", threshold: "threshold" });
    this.drifts = new Graph(drift, driftRead, { middle: "drift", threshold: "drift_threshold" }, " nats");
    const on = (name, work) => this.feed.addEventListener(name, (event) => work(event.detail), { signal: this.stopped.signal });
    on("sound", (heard) => this.hear(heard));
    on("told", (told) => this.take(told));
    on("health", () => {
      this.delivery();
      this.promise();
      this.status();
    });
    on("state", () => this.all());
    this.feed.hear(this.machine);
    this.all();
    this.refresh = setInterval(() => document.hidden || this.end !== null || this.past(), 30000);
  }

  hide() {
    this.stopped.abort();
    this.listening.stop();
    clearInterval(this.refresh);
    this.feed.hear(null);
  }

  hear(heard) {
    if (heard.machine !== this.machine || document.hidden) return;
    if (!heard.past) this.meter.take(heard);
    this.spectrogram.take(heard);
  }

  all() {
    this.status();
    this.delivery();
    this.promise();
    this.listEvents();
    this.past();
  }

  get now() {
    return this.feed.state.machines[this.machine] || {};
  }

  take(told) {
    if (told.machine !== this.machine) return;
    if (told.kind === "event") return this.listEvents();
    this.status();
    if (told.kind === "score" && this.end === null && this.range === "hour" && this.scores.data) {
      const score = told.message, valid = score.score !== null;
      const point = { time: Math.floor(Date.parse(score.time) / 1000), least: score.score, mean: score.score, most: score.score, threshold: score.threshold, exceeded: Number(score.exceeded), drift: null, drift_threshold: null, level: score.level, state: score.state, invalid: valid ? "" : score.validity, estimated: false };
      this.scores.add(point);
    }
    return undefined;
  }

  status() {
    const { alarm, score, sensor, drift } = this.now;
    const health = this.feed.health?.machines[this.machine], learning = Boolean(health?.missing.length);
    const known = learning ? { kind: "quiet", sign: "○", words: health.missing.includes("microphone") ? "No microphone yet" : "No bundle yet" } : LEVELS[alarm ? alarm.level : "unknown"];
    const about = [];
    if (alarm && alarm.level !== "normal") about.push(`since ${moment(alarm.since)}`, alarm.acknowledged ? "acknowledged" : "not acknowledged");
    if (alarm && alarm.latched) about.push("sounds healthy again; stands until acknowledged");
    if (alarm && alarm.shelving !== "unshelved") about.push(alarm.shelved_until ? `shelved until ${moment(alarm.shelved_until)}` : "shelved until it has ended");
    if (alarm && alarm.muted_until) about.push(alarm.planned ? `planned maintenance until ${moment(alarm.muted_until)}: ${alarm.planned}` : `muted until ${moment(alarm.muted_until)}`);
    if (alarm?.reason) about.push(alarm.reason.text);
    const commissioned = (health?.remarks || []).find((remark) => remark.startsWith("commissioning:"));
    if (commissioned) about.push(commissioned);
    if (learning) about.push("heard, recorded and not judged: see Set up");
    else if (score) about.push(`score ${number(score.score)} (1 is the threshold)${score.zone ? `, zone ${score.zone}` : ""}${score.level_change_db === null ? "" : ", by its level alone: that counts for no alarm"}${score.foreign?.length ? `; heard at the same time: ${score.foreign.join(", ")}${score.held ? " (held back: counts neither way)" : ""}` : ""}`);
    this.tiles.alarm.say(known.kind, `${known.sign} ${known.words}`, about.join(" · "));
    this.tiles.alarm.offer(`${alarm?.alarm_id}${alarm?.acknowledged}${alarm?.shelving}${alarm?.muted_until}${commissioned}`, () => [...alarmActions(this.machine, alarm), ...commissionActions(this.machine, commissioned)]);
    const state = learning ? learningWords(health) : stateWords(score);
    const remarks = (health?.remarks || []).filter((remark) => remark !== commissioned);
    this.tiles.state.say(remarks.length && state.kind !== "alarm" ? "alert" : state.kind, `${state.sign} ${state.words}`, [state.why, ...remarks].join(" · "));
    const ear = SENSOR[sensor ? sensor.status : "unknown"];
    this.tiles.sensor.say(ear.kind, `${ear.sign} ${ear.words}`, sensor ? (sensor.reason || `since ${moment(sensor.since)}`) : "");
    this.level(alarm);
    this.tiles.drift.node.hidden = this.driftCard.hidden = !drift;
    if (drift) {
      this.tiles.drift.say(drift.active ? "alert" : "good", drift.active ? "▲ Drifting" : "✓ As it was", (drift.active && drift.movement) || `${number(drift.distance)} of ${number(drift.threshold)} nats${drift.active && drift.distance < drift.threshold ? ": below the threshold again; the warning ends once that lasts" : ""}`);
      this.tiles.drift.offer(drift.warning_id, () => driftActions(this.machine, drift));
    }
  }

  // How loud the machine is heard, beside how it sounds.
  level(alarm) {
    const handling = this.feed.health?.levels?.[this.machine], tile = this.tiles.level;
    tile.node.hidden = !handling;
    if (!handling) return;
    const change = alarm?.level_change_db ?? null, held = handling.baseline;
    const about = [];
    if (held) about.push(`${held.microphone ? `${held.microphone}: ` : `${signed(held.decibels)} dB taken off: `}${held.operator}, ${moment(held.time)}${held.comment ? `, “${held.comment}”` : ""}`);
    if (handling.note) about.push(handling.note);
    if (change !== null) tile.say("alert", `▲ ${louder(change)} in every band`, ["nothing else has changed: no alarm", ...about].join(" · "));
    else if (handling.mode === "ignore") tile.say("quiet", handling.note ? "○ Not told apart" : "○ Ignored", about.join(" · ") || "how loud it is says nothing");
    else tile.say("good", held ? "✓ As taken anew" : "✓ As in training", about.join(" · "));
    tile.offer(`${change}${held?.time}`, () => levelActions(this.machine, change, held));
  }

  delivery() {
    const { kind, sign, words, about } = deliveryWords(this.feed.health);
    this.tiles.delivery.say(kind, `${sign} ${words}`, about);
  }

  // What is promised of false alarms, what that costs, and what happened beside it.
  promise() {
    const health = this.feed.health, words = health?.promises?.[this.machine] || [], tile = this.tiles.promise;
    const blind = health?.blind?.[this.machine], months = health?.machines[this.machine]?.months || [];
    tile.node.hidden = !words.length && !months.length;
    if (tile.node.hidden) return;
    const happened = months.slice(0, 3).map((one) => `${one.month}: ${one.alarms} ${one.alarms === 1 ? "alarm" : "alarms"}, ${one.healthy} answered healthy${one.unanswered ? `, ${one.unanswered} not answered` : ""}`);
    const [first = "no number of false alarms is promised", ...cost] = words.filter((one) => !one.startsWith("BLIND"));
    tile.say(blind ? "alarm" : "quiet", blind ? `✖ Blind: ${first}` : first.replace(/^promise: /, ""), [...happened, ...cost, blind].filter(Boolean).join(" · "));
  }

  listEvents() {
    const mine = this.feed.state.events.filter((told) => told.machine === this.machine).slice(-12).reverse();
    this.events.replaceChildren(...(mine.length ? mine.map(describeEvent) : [el("li", { class: "dim" }, "Nothing since the agent's start.")]));
  }

  choose(name) {
    this.range = name;
    this.end = null;
    this.past();
  }

  move(way) {
    const span = SPANS[this.range], now = Date.now() / 1000;
    const end = (this.end === null ? now : this.end) + (way * span) / 2;
    this.end = end >= now ? null : end;
    this.past();
  }

  // Of the stretch that is shown, or of the point that is read in it.
  why() {
    const data = this.scores.data, at = this.scores.picked, end = this.end ?? Date.now() / 1000;
    const [from, to] = data && at !== null && at >= data.begin ? [at - 60, at + data.step + 60] : [end - SPANS[this.range], end];
    location.hash = `why/${encodeURIComponent(this.machine)}/${Math.round(from)}/${Math.round(to)}`;
  }

  async past() {
    this.asked += 1;
    const mine = this.asked;
    this.ranges.forEach((button, i) => button.setAttribute("aria-pressed", String(Object.keys(SPANS)[i] === this.range)));
    this.later.disabled = this.end === null;
    const end = this.end === null ? "" : `&end=${Math.round(this.end)}`;
    try {
      const found = await get(`machines/${encodeURIComponent(this.machine)}/history?range=${this.range}${end}`);
      if (mine !== this.asked || this.stopped.signal.aborted) return;
      if (!found.time.length) Object.assign(found, { end: this.end ?? Date.now() / 1000, begin: (this.end ?? Date.now() / 1000) - SPANS[this.range] });
      this.scores.show(found);
      this.drifts.show(structuredClone(found));
      if (this.now.drift) await this.spectra.load(this.stopped.signal);
    } catch (fault) {
      text(this.scores.readout, fault.message);
    }
  }
}

function tile(title, extra = "") {
  const value = el("p", { class: "value" }, "…"), why = el("p", { class: "why" }), row = el("div", { class: "row" });
  const node = el("section", { class: `card tile quiet ${extra}`, role: "group", "aria-label": title }, el("h2", {}, title), value, why, row);
  let offered = null;
  return {
    node,
    say(kind, words, about) {
      node.className = `card tile ${kind} ${extra}`;
      text(value, words);
      text(why, about);
    },
    offer(key, make) {
      if (key === offered) return; // not under somebody's finger
      offered = key;
      row.replaceChildren(...make());
    },
  };
}
