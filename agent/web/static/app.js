// Which page is shown, of which machine; logging in; the link to the device.

import { AlarmsView } from "./alarms.js";
import { act, get, send } from "./api.js";
import { CollectView } from "./collect.js";
import { el, notice, text } from "./dom.js";
import { Feed } from "./feed.js";
import { LiveView } from "./live.js";
import { SetupView } from "./setup.js";
import { LEVELS } from "./words.js";

const PAGES = [["live", "Live", LiveView], ["alarms", "Alarms", AlarmsView], ["collect", "Collect", CollectView], ["setup", "Set up", SetupView]];
const feed = new Feed();
const main = document.getElementById("main");
let shown = null, locked = false;

function place() {
  const [page, machine, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const machines = Object.keys(feed.state.machines);
  // Unless one is asked for, what is not judged yet comes first.
  const lacking = machines.find((name) => lacks(name));
  const here = machines.includes(machine) ? machine : (!page && lacking) || machines[0];
  const known = PAGES.find(([name]) => name === page) || PAGES[!page && lacking ? 3 : 0];
  return { page: known, machine: here, rest };
}

function lacks(name) {
  return Boolean(feed.health?.machines[name]?.missing.length);
}

function show() {
  if (locked) return;
  const { page, machine, rest } = place(), [name, title, View] = page;
  if (shown) shown.hide();
  main.replaceChildren(machines(name, machine));
  shown = new View(feed, machine, rest);
  shown.show(main);
  document.title = `${title} · ${machine} · ${feed.device}`;
  document.getElementById("pages").replaceChildren(...PAGES.map(([one, words]) => el("a", { href: `#${one}/${encodeURIComponent(machine)}`, "aria-current": one === name ? "page" : null }, words)));
}

function label(name) {
  if (lacks(name)) return `○ ${name}: not judged yet`;
  const level = LEVELS[feed.state.machines[name].alarm?.level || "unknown"];
  return `${level.sign} ${name}: ${level.words}`;
}

function machines(page, machine) {
  const names = Object.keys(feed.state.machines), row = el("div", { class: "row" }, el("h1", {}, machine));
  if (names.length > 1) {
    row.append(el("label", {}, "Machine", el("select", { onchange: (event) => { location.hash = `${page}/${encodeURIComponent(event.target.value)}`; } },
      names.map((name) => el("option", { value: name, selected: name === machine }, label(name))))));
  }
  return row;
}

function login() {
  if (locked) return;
  locked = true;
  if (shown) shown.hide();
  shown = null;
  feed.end();
  const password = el("input", { type: "password", autocomplete: "current-password", required: true, id: "password" });
  main.replaceChildren(el("form", { class: "card", onsubmit: act(async () => {
    await send("login", { password: password.value });
    locked = false;
    await begin();
    return null;
  }) }, el("h1", {}, "Log in"), el("p", {}, el("label", {}, "Password of this page", password)), el("button", { class: "main", type: "submit" }, "Log in")));
  password.focus();
}

async function begin() {
  const session = await get("session");
  feed.device = session.device;
  text(document.getElementById("device"), session.device);
  text(document.getElementById("version"), `auscult ${session.version}`);
  document.getElementById("logout").hidden = !(session.password && session.open);
  if (!session.open) return login();
  feed.health = await get("health");
  await feed.begin();
  show();
  return undefined;
}

feed.addEventListener("link", ({ detail: on }) => {
  const link = document.getElementById("link");
  link.classList.toggle("on", on);
  text(link, on ? "connected to the device" : "connection lost, trying again");
  // A stream that was turned away may mean that the session has ended.
  if (!on) get("session").then((session) => session.open || login()).catch(() => {});
});
feed.addEventListener("told", ({ detail }) => {
  if (detail.kind === "alarm") for (const option of main.querySelectorAll("h1 + label option")) text(option, label(option.value));
  if (detail.kind === "event" && ["raised", "alert"].includes(detail.message.data.event)) {
    notice(`${detail.machine}: ${detail.message.data.event === "raised" ? "alarm" : "alert"}`, true);
  }
});
window.addEventListener("locked", login);
window.addEventListener("hashchange", show);
document.getElementById("logout").addEventListener("click", act(async () => {
  await send("logout");
  login();
  return null;
}));
const operator = document.getElementById("operator");
operator.value = localStorage.getItem("operator") || "";
operator.addEventListener("change", () => localStorage.setItem("operator", operator.value.trim()));
begin().catch((fault) => notice(fault.message, true));
