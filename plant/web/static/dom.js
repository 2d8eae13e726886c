// Making elements, words for numbers and times, and the JSON API.

export function el(tag, props = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function notice(words, bad = false) {
  const line = el("p", bad ? { class: "bad", role: "alert" } : {}, words);
  document.getElementById("notice").append(line);
  setTimeout(() => line.remove(), bad ? 12000 : 5000);
}

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

async function answer(response) {
  const data = await response.json().catch(() => ({}));
  if (response.status === 401) window.dispatchEvent(new Event("locked"));
  if (!response.ok) throw new Error(data.error || `the server answered ${response.status}`);
  return data;
}

export async function get(path) {
  return answer(await fetch(`api/${path}`, { headers: { accept: "application/json" } }));
}

export async function send(path, body, method = "POST") {
  const options = { method, headers: { "x-auscult": "1" } };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return answer(await fetch(`api/${path}`, options));
}

// Do something for a button: not twice at once, and failures are told.
export function act(work, done = "") {
  return async (event) => {
    const button = event.currentTarget instanceof HTMLButtonElement ? event.currentTarget : event.submitter;
    if (event.type === "submit") event.preventDefault();
    if (button) button.disabled = true;
    try {
      const said = await work(event);
      if (said !== null && (said || done)) notice(typeof said === "string" ? said : done);
    } catch (fault) {
      notice(fault.message, true);
    } finally {
      if (button) button.disabled = false;
    }
  };
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
