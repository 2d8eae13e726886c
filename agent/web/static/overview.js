// Every machine as a card, the worst first, and what waits for an answer.

import { alarmActions } from "./actions.js";
import { get } from "./api.js";
import { el, moment, number, text } from "./dom.js";
import { Inbox } from "./inbox.js";
import { Sparkline } from "./spark.js";
import { deliveryWords, eventWords, LEVELS, learningWords, SENSOR, standsOut, stateWords } from "./words.js";

export class OverviewView {
  constructor(feed) {
    this.feed = feed;
    this.stopped = new AbortController();
    this.cards = new Map();
    this.inbox = new Inbox(feed, { few: 6 });
  }

  show(root) {
    this.list = el("ul", { class: "cards", "aria-label": "Machines, the worst first" });
    root.append(this.list);
    for (const name of Object.keys(this.feed.state.machines)) this.cards.set(name, card(name));
    const on = (name, work) => this.feed.addEventListener(name, (event) => work(event.detail), { signal: this.stopped.signal });
    on("told", (told) => this.take(told));
    on("health", () => this.all());
    on("state", () => this.all());
    this.all();
    this.inbox.show(root);
    this.trends();
    this.refresh = setInterval(() => document.hidden || this.trends(), 120000);
  }

  hide() {
    this.stopped.abort();
    this.inbox.hide();
    clearInterval(this.refresh);
  }

  take({ machine, kind, message }) {
    const mine = this.cards.get(machine);
    if (!mine) return;
    if (kind === "score") mine.spark.add(message.held ? null : message.score, message.level);
    if (kind === "event") mine.happened({ time: message.data.time, area: message.type.split(".")[1], event: message.data.event, operator: message.data.operator });
    if (document.hidden) return;
    this.say(machine);
    if (kind !== "score") this.order();
  }

  all() {
    for (const name of this.cards.keys()) this.say(name);
    this.order();
  }

  say(name) {
    this.cards.get(name)?.say(this.feed.state.machines[name] || {}, this.feed.health, name);
  }

  // Only when it changes: not under somebody's finger.
  order() {
    const sorted = [...this.cards.values()].sort((one, other) => other.rank - one.rank);
    if (sorted.some((one, i) => this.list.children[i] !== one.node)) this.list.replaceChildren(...sorted.map((one) => one.node));
  }

  async trends() {
    try {
      const { machines } = await get("overview");
      if (this.stopped.signal.aborted) return;
      for (const [name, day] of Object.entries(machines)) {
        this.cards.get(name)?.spark.show(day);
        this.cards.get(name)?.happened(day.last);
      }
    } catch {
      // The link's own words say that the device is away.
    }
  }
}

function rankOf({ alarm, sensor, drift, score }, missing) {
  const level = { normal: 0, alert: 30, alarm: 50 }[alarm?.level] || 0;
  const unseen = alarm?.alarm_id && !alarm.acknowledged ? 10 : 0, shelved = alarm && alarm.shelving !== "unshelved";
  const ear = sensor && sensor.status !== "good" ? (sensor.status === "failure" ? 28 : 12) : 0;
  const own = shelved ? 8 : level + unseen;
  return Math.max(own, ear, missing ? 15 : 0, drift?.active ? 14 : 0) + Math.max(0, Math.min(5, score?.score || 0)) / 5;
}

function card(name) {
  const place = encodeURIComponent(name);
  const badge = el("span", { class: "badge quiet" }, "…"), zone = el("span", { class: "zone" });
  const canvas = el("canvas", { class: "spark", role: "img", "aria-label": "The last day" }), facts = el("dl", { class: "facts" });
  const happened = el("p", { class: "dim last" }, "Nothing has happened yet."), row = el("div", { class: "row" });
  const why = el("p", { class: "why" });
  const node = el("li", { class: "card tile quiet", "data-machine": name },
    el("header", {}, el("h2", {}, el("a", { href: `#live/${place}` }, name)), zone, badge), why, canvas, facts, happened, row);
  const entries = {};
  for (const [key, words] of [["state", "Machine"], ["sensor", "Microphone"], ["drift", "Drift"], ["delivery", "Delivery"]]) {
    entries[key] = el("dd", {});
    facts.append(el("dt", {}, words), entries[key]);
  }
  let offered = null;
  return {
    node,
    rank: 0,
    spark: new Sparkline(canvas),
    happened(last) {
      if (last) happened.replaceChildren(el("time", { datetime: last.time, class: "figure" }, moment(last.time)), ` ${eventWords(last)}${last.operator ? ` by ${last.operator}` : ""}`);
    },
    say(now, health) {
      const { alarm, score, sensor, drift } = now, mine = health?.machines[name], missing = Boolean(mine?.missing.length);
      const known = missing ? { kind: "quiet", sign: "○", words: "Not judged yet" } : LEVELS[alarm?.level || "unknown"];
      const shelved = alarm && alarm.shelving !== "unshelved";
      node.className = `card tile ${shelved ? "quiet" : known.kind}`;
      badge.className = `badge ${shelved ? "quiet" : known.kind}`;
      text(badge, `${known.sign} ${known.words}${shelved ? ", shelved" : ""}`);
      const letter = missing ? "" : score?.zone || "";
      zone.className = `zone ${letter && `zone-${letter.toLowerCase()}`}`;
      // A standing alarm is about another moment than the latest window.
      text(zone, letter && `${alarm?.alarm_id ? "Now zone" : "Zone"} ${letter}`);
      text(why, missing ? "Heard and recorded; it needs a bundle or a microphone: see Set up." : alarm?.alarm_id && alarm.reason ? `Since ${moment(alarm.since)}, ${alarm.acknowledged ? "acknowledged" : "not acknowledged"} · ${alarm.reason.text}` : score && score.score !== null ? `Score ${number(score.score)} (1 is the threshold)` : "");
      const state = missing ? learningWords(mine) : stateWords(score), muted = alarm?.muted_until ? `, muted until ${moment(alarm.muted_until)}` : "";
      text(entries.state, `${state.sign} ${state.words}${muted}`);
      const ear = SENSOR[sensor ? sensor.status : "unknown"];
      text(entries.sensor, `${ear.sign} ${ear.words}${sensor?.reason ? `: ${sensor.reason}` : ""}`);
      text(entries.drift, drift ? (drift.active ? "▲ Drifting" : "✓ As it was") : "Not followed");
      const post = deliveryWords(health);
      text(entries.delivery, `${post.sign} ${post.words}`);
      this.rank = rankOf(now, missing);
      const key = `${alarm?.alarm_id}${alarm?.acknowledged}${alarm?.shelving}${alarm?.muted_until}`;
      if (key === offered) return;
      offered = key;
      row.replaceChildren(...(standsOut(alarm) ? [...alarmActions(name, alarm), el("a", { class: "button", href: `#alarms/${place}/${encodeURIComponent(alarm.alarm_id)}` }, "Open the alarm")] : []));
    },
  };
}
