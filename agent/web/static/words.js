// What the messages' values are called; each with a sign, for colour alone says nothing.

import { el, moment, number } from "./dom.js";

export const LEVELS = {
  normal: { kind: "good", sign: "✓", words: "Normal" },
  alert: { kind: "alert", sign: "▲", words: "Alert" },
  alarm: { kind: "alarm", sign: "✖", words: "Alarm" },
  unknown: { kind: "quiet", sign: "…", words: "Not known yet" },
};

// NAMUR NE 107.
export const SENSOR = {
  good: { kind: "good", sign: "✓", words: "Good" },
  failure: { kind: "alarm", sign: "✖", words: "Failure" },
  check_function: { kind: "alert", sign: "▼", words: "Function check" },
  out_of_specification: { kind: "alert", sign: "?", words: "Out of specification" },
  maintenance_required: { kind: "alert", sign: "◆", words: "Maintenance required" },
  unknown: { kind: "quiet", sign: "…", words: "Not known yet" },
};

export function stateWords(score) {
  if (!score) return { kind: "quiet", sign: "…", words: "Waiting", why: "for the first window" };
  if (score.validity !== "valid") return { kind: "alert", sign: "?", words: "Not judged", why: score.reason || score.validity };
  if (score.state === "idle") return { kind: "quiet", sign: "‖", words: "Idle", why: "sounds like its idle recordings, or far quieter than it runs" };
  if (score.state === "changing") return { kind: "quiet", sign: "↕", words: "Starting or stopping", why: "judged once its sound has settled" };
  return { kind: "good", sign: "▶", words: "Running", why: `window ${score.window} from ${score.origin}` };
}

// Of a machine without a bundle: what is heard of it, from `health`.
export function learningWords(health) {
  if (!health || !health.windows) return { kind: "quiet", sign: "…", words: "Waiting", why: "for the first window" };
  if (health.validity !== "valid") return { kind: "alert", sign: "?", words: "Not fit to learn from", why: health.reason || health.validity };
  return { kind: "good", sign: "♪", words: "Heard, not judged", why: `no bundle yet; ${health.unjudged} of ${health.windows} windows fit to learn from` };
}

export const signed = (decibels) => `${decibels > 0 ? "+" : ""}${number(decibels)}`;
export const louder = (decibels) => `${Math.abs(decibels).toFixed(0)} dB ${decibels > 0 ? "louder" : "quieter"}`;

const KINDS = {
  level: "alert", level_returned: "good",
  raised: "alarm", alert: "alert", realarm: "alarm", warned: "alert", refused: "alert", missing: "alert", rolled_back: "alert", cleared: "good",
};

export function describeEvent(told) {
  const { type, data } = told.message, kind = data.event, area = type.split(".")[1];
  const about = [];
  if (area === "alarm") {
    if (kind === "level_baseline" || kind === "level_undone") about.push(`${signed(data.level_change_db)} dB taken off from then on`);
    else if (!kind.startsWith("level")) about.push(`${data.previous} → ${data.level}`);
    if (data.score !== null) about.push(`score ${number(data.score)}${data.zone ? `, zone ${data.zone}` : ""}`);
    const reason = ["raised", "alert", "realarm"].includes(kind) && data.reason ? data.reason.text.split("; ").filter((part) => part !== `zone ${data.zone}`).join("; ") : "";
    about.push(reason);
    // What the reason says already is not said again.
    if (data.explanation) about.push(data.explanation.text.split("; ").filter((part) => !reason.includes(part)).join("; "));
  } else if (area === "drift") about.push(data.movement || (kind === "accepted" ? "how it sounds now is healthy, too" : `${number(data.distance)} of ${number(data.threshold)} nats`));
  else about.push(data.bundle ? `${data.bundle}, version ${data.version}, ${data.rows} rows` : "no bundle in use", data.reason);
  if (data.operator) about.push(`by ${data.operator}`);
  if (data.note) about.push(`“${data.note}”`);
  return el("li", {}, el("time", { datetime: data.time, class: "figure" }, moment(data.time)),
    el("span", { class: `badge ${KINDS[kind] || "quiet"}` }, kind.startsWith("level") ? kind.replaceAll("_", " ") : `${area} ${kind.replaceAll("_", " ")}`),
    el("span", { class: "dim" }, about.filter(Boolean).join(" · ")));
}

// Whether an alarm is in view and not over: what badge and title count.
export const standsOut = (alarm) => Boolean(alarm?.alarm_id && alarm.shelving === "unshelved");

export function standing(one) {
  if (one.asked) return el("span", { class: "badge quiet" }, "a window");
  if (!one.standing) return el("span", { class: "badge quiet" }, "over");
  const { level, acknowledged, shelving, latched } = one.standing, known = LEVELS[level], shelved = shelving !== "unshelved";
  return el("span", { class: `badge ${shelved ? "quiet" : known.kind}` }, `${known.sign} ${known.words}${latched ? ", sounds healthy again" : ""}, ${shelved ? "shelved" : acknowledged ? "acknowledged" : "not acknowledged"}`);
}

// How messages reach the broker, in few words; `about` says more.
export function deliveryWords(health) {
  if (!health) return { kind: "quiet", sign: "…", words: "Unknown", about: "" };
  if (!health.broker) return { kind: "quiet", sign: "○", words: "No broker", about: "Messages stay on this device." };
  const { undelivered, unsaved, refused, denied_topics: denied, proof } = health.outbox;
  if (denied.length) return { kind: "alarm", sign: "✖", words: "Alarms do not arrive", about: `${health.broker} acknowledges and delivers to nobody: ${denied.join(", ")}. Its rules deny this user these topics.` };
  const about = [health.broker, undelivered ? `${undelivered} events wait on disk` : "nothing waits"];
  if (unsaved) about.push(`${unsaved} in memory alone: the disk refuses them`);
  if (refused) about.push(`${refused} refused`);
  if (proof === "none") about.push("nobody can say whether messages arrive: this user may not read its own topics");
  return { kind: unsaved ? "alarm" : health.connected ? "good" : "alert", sign: health.connected ? "✓" : "▲", words: health.connected ? "Connected" : "Broker away", about: about.join(" · ") };
}

export const eventWords = ({ area, event }) => (event.startsWith("level") ? event : `${area} ${event}`).replaceAll("_", " ");
