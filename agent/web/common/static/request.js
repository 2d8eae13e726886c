// The JSON API: asking it, and doing something for a button. Whatever changes something bears the page's header.

import { notice } from "./elements.js";

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function answer(response) {
  const data = await response.json().catch(() => ({}));
  if (response.status === 401) window.dispatchEvent(new Event("locked"));
  if (!response.ok) throw new Refused(response.status, data.error || `the server answered ${response.status}`);
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
