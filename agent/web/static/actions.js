// What a person can do about an alarm.

import { act, command, operator } from "./api.js";
import { el } from "./dom.js";

const TIMES = [["15 minutes", 900], ["1 hour", 3600], ["8 hours", 28800], ["24 hours", 86400]];

export function alarmActions(machine, alarm) {
  if (!alarm) return [];
  const found = [];
  if (alarm.alarm_id && !alarm.acknowledged) {
    found.push(el("button", { type: "button", "data-for": "operator", class: "main", "data-act": "ack", onclick: act(async () => {
      await command("ack", machine, { alarm_id: alarm.alarm_id });
      return "Acknowledged.";
    }) }, "Acknowledge"));
  }
  if (alarm.shelving === "unshelved") {
    found.push(el("button", { type: "button", "data-for": "operator", "data-act": "shelve", onclick: () => askTime("Shelve the alarm", "Out of view; the machine goes on being judged.", alarm.alarm_id ? [...TIMES, ["until it has ended", null]] : TIMES, (seconds, comment) => command("shelve", machine, { seconds, comment })) }, "Shelve…"));
  } else found.push(el("button", { type: "button", "data-for": "operator", onclick: act(() => command("shelve", machine, { seconds: 0 }).then(() => "Unshelved.")) }, "Unshelve"));
  if (!alarm.muted_until) {
    found.push(el("button", { type: "button", "data-for": "operator", "data-act": "mute", onclick: () => askTime("Mute: the machine is being worked on", "Nothing that is heard counts until then.", TIMES, (seconds, comment) => command("mute", machine, { seconds, comment })) }, "Mute…"));
  } else found.push(el("button", { type: "button", "data-for": "operator", onclick: act(() => command("mute", machine, { seconds: 0 }).then(() => "Judging again.")) }, "Unmute"));
  return found;
}

// Of a machine that is commissioned; what would be its alarms is on the page "Alarms".
export function commissionActions(machine, remark) {
  if (!remark) return [];
  const answer = (verdict, words) => el("button", { type: "button", "data-for": "admin", "data-act": `all-${verdict}`, onclick: () => ask(words, "Each would-be alarm that is not answered yet is answered so. One by one: page “Alarms”.", [], () => command("commission", machine, { action: "answer", verdict }), words) }, `${words}…`);
  return [
    remark.includes("not answered") && !remark.includes(" 0 not answered") ? [answer("normal", "All were healthy"), answer("anomalous", "All were faults")] : [],
    el("button", { type: "button", "data-for": "admin", "data-act": "live", onclick: () => ask("Go live", "Its alarms are told from now on. The threshold is found from the sound heard here, where enough was.", [], () => command("commission", machine, { action: "live" }), "Go live") }, "Go live…"),
  ].flat();
}

export function driftActions(machine, drift) {
  if (!drift.active) return [];
  const comment = el("input", { name: "comment", maxlength: 1000 });
  return [el("button", { type: "button", "data-for": "admin", "data-act": "drift", onclick: () => ask("Accept this change as healthy", "The machine is compared with how it sounds now, too, from then on. This cannot be taken back but by a new bundle.", [el("label", {}, "Why", comment)], async () => {
    if (!operator()) throw new Error("Give your name below the page first: it is kept with this.");
    await command("drift_accept", machine, { warning_id: drift.warning_id, comment: comment.value });
  }, "Accept") }, "Accept the change…")];
}

// The microphone was moved: its level is taken anew, or that is taken back.
export function levelActions(machine, change, held) {
  const found = [], comment = () => el("input", { name: "comment", maxlength: 1000 });
  const named = () => {
    if (!operator()) throw new Error("Give your name below the page first: it is kept with this.");
  };
  const why = comment();
  found.push(el("button", { type: "button", "data-for": "admin", class: change === null ? "" : "main", "data-act": "level", onclick: () => ask("The microphone was moved", `How loud it hears the machine now is taken for its usual level from now on, without training.${change === null ? "" : ` (${change > 0 ? "+" : ""}${change} dB)`} The machine must be running, and in good order.`, [el("label", {}, "Why (told with it)", why)], async () => {
    named();
    await command("level_baseline", machine, { comment: why.value });
  }, "Take the level anew") }, "The microphone was moved…"));
  const other = comment();
  found.push(el("button", { type: "button", "data-act": "microphone", onclick: () => ask("Another microphone", "How loud it hears the machine in each band, against the recordings of training, is found from what is heard now, and taken off from now on. Bands that it does not hear are left out of the scores. The machine must have run through it for two minutes, in good order.", [el("label", {}, "Why (told with it)", other)], async () => {
    named();
    await command("level_baseline", machine, { microphone: true, comment: other.value });
  }, "Take it off") }, "Another microphone…"));
  if (held) {
    found.push(el("button", { type: "button", "data-for": "admin", "data-act": "level-undo", onclick: act(async () => {
      named();
      await command("level_baseline_undo", machine, {});
      return "Taken back.";
    }) }, "Take that back"));
  }
  return found;
}

export function askTime(title, about, times, work) {
  const select = el("select", { name: "time" }, times.map(([words], i) => el("option", { value: i }, words)));
  const comment = el("input", { name: "comment", maxlength: 1000 });
  ask(title, about, [el("label", {}, "For how long", select), el("label", {}, "Why (told with it)", comment)], () => work(times[Number(select.value)][1], comment.value));
}

// A dialog with a form; closed by what is done in it, by Cancel, or by Escape.
export function ask(title, about, fields, work, button = "Do it") {
  const dialog = el("dialog", { "aria-label": title });
  const form = el("form", { method: "dialog", onsubmit: act(async () => {
    await work();
    dialog.close();
    return "Done.";
  }) }, el("h2", {}, title), el("p", { class: "dim" }, about), fields,
  el("div", { class: "row" }, el("button", { class: "main", type: "submit" }, button), el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  dialog.append(form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
