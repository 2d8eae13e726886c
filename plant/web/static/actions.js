// What can be done about an alarm: each goes to the device, whose answer is shown when it comes.

import { act, ask, el, send } from "./dom.js";

const TIMES = [["1 hour", 3600], ["8 hours", 28800], ["1 day", 86400], ["1 week", 604800]];

function give(one, command, fields = {}) {
  return send("commands", { device: one.device, machine: one.name, command, ...fields }).then(() => `Sent to ${one.device}.`);
}

export function actions(one, session) {
  if (session.role === "viewer") return [];
  const found = [], shelved = one.shelving && one.shelving !== "unshelved", name = `${one.device}/${one.name}`;
  if (one.alarm_id && !one.acknowledged) found.push(el("button", { type: "button", class: "main", "data-act": "ack", "aria-label": `Acknowledge the alarm of ${name}`, onclick: act(() => give(one, "ack", { alarm_id: one.alarm_id })) }, "Acknowledge"));
  if (shelved) found.push(el("button", { type: "button", "aria-label": `Unshelve the alarm of ${name}`, onclick: act(() => give(one, "shelve", { seconds: 0 })) }, "Unshelve"));
  else found.push(el("button", { type: "button", "data-act": "shelve", "aria-label": `Shelve the alarm of ${name}`, onclick: () => askTime(one, "shelve", "Shelve the alarm", "Out of view; the machine goes on being judged.", one.alarm_id ? [...TIMES, ["until it has ended", null]] : TIMES) }, "Shelve…"));
  if (one.muted_until) found.push(el("button", { type: "button", "aria-label": `Unmute ${name}`, onclick: act(() => give(one, "mute", { seconds: 0 })) }, "Unmute"));
  else found.push(el("button", { type: "button", "data-act": "mute", "aria-label": `Mute ${name}`, onclick: () => askTime(one, "mute", "Mute: the machine is being worked on", "Nothing that is heard counts until then.", TIMES) }, "Mute…"));
  if (session.answers && one.alarm_id) {
    for (const [verdict, words] of [["normal", "That was normal"], ["anomalous", "That was real"]]) {
      found.push(el("button", { type: "button", "data-act": verdict, onclick: () => {
        const comment = el("input", { maxlength: 1000, name: "comment" });
        ask(words, "Kept by the device with the alarm's sound.", el("label", {}, "Comment", comment), () => give(one, "feedback", { alarm_id: one.alarm_id, verdict, comment: comment.value }), words);
      } }, `${words}…`));
    }
  }
  return found;
}

function askTime(one, command, title, about, times) {
  const select = el("select", { name: "time" }, times.map(([words], i) => el("option", { value: i }, words)));
  const comment = el("input", { name: "comment", maxlength: 1000 });
  ask(`${title}: ${one.name}`, about, [el("label", {}, "For how long", select), el("label", {}, "Why (told with it)", comment)],
    () => give(one, command, { seconds: times[Number(select.value)][1], comment: comment.value }), "Send");
}
