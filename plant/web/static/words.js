// What values are called; each with a sign, for colour alone says nothing.

import { el, moment, number } from "./dom.js";

const LEVELS = { normal: ["good", "✓ Normal"], alert: ["alert", "▲ Alert"], alarm: ["alarm", "✖ Alarm"] };

export const place = (one) => `machine/${encodeURIComponent(one.device)}/${encodeURIComponent(one.name)}`;

export function badge(one) {
  // An alarm stands also while its device is away.
  if (one.status === "offline" && !one.alarm_id) return el("span", { class: "badge alert" }, "○ Offline");
  if (!one.level) return el("span", { class: "badge quiet" }, "… Not known yet");
  const [kind, words] = LEVELS[one.level] || ["alarm", one.level], shelved = one.alarm_id && one.shelving !== "unshelved";
  return el("span", { class: `badge ${shelved ? "quiet" : kind}` }, `${words}${one.latched ? ", sounds healthy again" : ""}${one.alarm_id ? (shelved ? ", shelved" : one.acknowledged ? ", acknowledged" : ", not acknowledged") : ""}`);
}

export function remarks(one) {
  const found = one.status === "offline" && one.alarm_id ? ["the device is offline: this is how it stood"] : [];
  if (one.sensor && one.sensor !== "good") found.push(`microphone: ${one.sensor.replaceAll("_", " ")}${one.sensor_reason ? ` (${one.sensor_reason})` : ""}`);
  if (one.drift) found.push("its sound has drifted");
  if (one.muted_until) found.push(`muted until ${moment(one.muted_until)}`);
  if (one.alarm_id && one.reason) found.push(one.reason);
  return found.join(" · ");
}

const STATES = { sent: ["quiet", "… waits for the device"], unheard: ["alert", "▲ not heard"], ok: ["good", "✓ done"], error: ["alarm", "✖ refused"] };
const COMMANDS = { ack: "acknowledge", shelve: "shelve", mute: "mute", feedback: "answer" };

export function commandLine(one, whole = false) {
  const [kind, words] = STATES[one.status] || ["quiet", one.status];
  return el("li", { "data-transaction": one.transaction }, el("time", { datetime: one.asked, class: "figure" }, moment(one.asked)),
    el("span", {}, `${whole ? `${one.device}/${one.machine}: ` : ""}${COMMANDS[one.command] || one.command} by ${one.user}${one.fields.comment ? `: “${one.fields.comment}”` : ""}`),
    el("span", { class: `badge ${kind}` }, words), one.error ? el("span", { class: "dim" }, one.error) : null);
}

export function eventLine(one, whole = false) {
  const { type, data } = one.message, [, area, kind] = type.split(".");
  const about = [];
  if (data.previous && data.level && data.previous !== data.level) about.push(`${data.previous} → ${data.level}`);
  if (data.score !== null && data.score !== undefined) about.push(`score ${number(data.score)}${data.zone ? `, zone ${data.zone}` : ""}`);
  if (data.reason && typeof data.reason === "object") about.push(data.reason.text);
  if (data.movement) about.push(data.movement);
  if (data.operator) about.push(`by ${data.operator}`);
  if (data.note) about.push(`“${data.note}”`);
  return el("li", { "data-event": one.id }, el("time", { datetime: one.time, class: "figure" }, moment(one.time)),
    whole ? el("a", { href: `#${place({ device: one.device, name: one.machine })}` }, `${one.device}/${one.machine}`) : null,
    el("span", { class: "badge quiet" }, `${area} ${kind.replaceAll("_", " ")}`), el("span", { class: "dim" }, about.join(" · ")));
}
