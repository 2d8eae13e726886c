// Words for numbers and times, dialogs and parts of tables.

import { act } from "./common/request.js";
import { el } from "./common/elements.js";

export { el, notice, text } from "./common/elements.js";
export { act, get, send } from "./common/request.js";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" });

export function moment(iso) {
  if (!iso) return "";
  const date = new Date(iso);
  return new Date().toDateString() === date.toDateString() ? clock.format(date) : full.format(date);
}

export function number(value, digits = 3) {
  return value === null || value === undefined ? "–" : String(Number(value.toPrecision(digits)));
}

// A dialog with a form; closed by what is done in it, by Cancel, or by Escape.
export function ask(title, about, fields, work, button) {
  const dialog = el("dialog", { "aria-label": title });
  dialog.append(el("form", { method: "dialog", onsubmit: act(async () => {
    const said = await work();
    dialog.close();
    return said;
  }) }, el("h2", {}, title), el("p", { class: "dim" }, about), fields,
  el("div", { class: "row" }, el("button", { class: "main", type: "submit" }, button), el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

export function head(...names) {
  return el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name))));
}

export function cell(label, ...children) {
  return el("td", { "data-label": label }, el("span", {}, ...children));
}
