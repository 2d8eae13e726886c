// Which page is shown, of which machine; logging in; the link to the device.

import { AlarmsView } from "./alarms.js";
import { act, get, send } from "./api.js";
import { CollectView } from "./collect.js";
import { el, notice, text } from "./dom.js";
import { Feed } from "./feed.js";
import { LiveView } from "./live.js";
import { OverviewView } from "./overview.js";
import { SetupView } from "./setup.js";
import { alarmSound, soundSwitch } from "./ring.js";
import { WhyView } from "./why.js";
import { LEVELS, standsOut } from "./words.js";

// Name, words, view, and whether it is of one machine.
const PAGES = [["overview", "Overview", OverviewView, false], ["live", "Live", LiveView, true], ["alarms", "Alarms", AlarmsView, false], ["why", "Why?", WhyView, true], ["collect", "Collect", CollectView, true], ["setup", "Set up", SetupView, true]];
const feed = new Feed();
const main = document.getElementById("main");
let shown = null, locked = false, title = "";

const names = () => Object.keys(feed.state.machines);

function place() {
  const [page, machine, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  // Unless one is asked for: all of them, or with one machine that, and what is not judged first.
  const lacking = names().find((name) => lacks(name)), several = names().length > 1;
  const asked = names().includes(machine);
  const here = asked ? machine : (!page && lacking) || names()[0];
  const first = several ? "overview" : lacking ? "setup" : "live";
  const known = PAGES.find(([name]) => name === page) || PAGES.find(([name]) => name === first);
  return { page: known, machine: here, rest, asked };
}

function lacks(name) {
  return Boolean(feed.health?.machines[name]?.missing.length);
}

function show() {
  if (locked) return;
  const { page, machine, rest, asked } = place(), [name, words, View, single] = page;
  if (shown) shown.hide();
  const about = single || (rest.length && asked) ? machine : name === "alarms" ? "Alarms" : feed.device;
  main.replaceChildren(heading(name, about, single ? machine : null));
  shown = new View(feed, machine, rest, asked);
  shown.show(main);
  title = [words, single || rest.length ? machine : "", feed.device].filter(Boolean).join(" · ");
  document.getElementById("pages").replaceChildren(...PAGES.filter(([one]) => one !== "overview" || names().length > 1).map(([one, text_, , bound]) => el("a", { href: bound ? `#${one}/${encodeURIComponent(machine)}` : `#${one}`, "aria-current": one === name ? "page" : null },
    text_, one === "alarms" ? el("span", { class: "count", id: "standing", hidden: true }) : null)));
  count();
}

// What stands, in the title and at the page's name: seen from another tab, too.
function count() {
  const standing = names().filter((name) => standsOut(feed.state.machines[name].alarm)).length;
  document.title = `${standing ? `(${standing}) ` : ""}${title}`;
  const badge = document.getElementById("standing");
  if (!badge) return;
  badge.hidden = !standing;
  badge.replaceChildren(String(standing), el("span", { class: "unseen" }, standing === 1 ? " machine in alarm or alert" : " machines in alarm or alert"));
}

function label(name) {
  if (lacks(name)) return `○ ${name}: not judged yet`;
  const level = LEVELS[feed.state.machines[name].alarm?.level || "unknown"];
  return `${level.sign} ${name}: ${level.words}`;
}

function heading(page, about, machine) {
  const row = el("div", { class: "row" }, el("h1", {}, about));
  if (machine && names().length > 1) {
    row.append(el("label", {}, "Machine", el("select", { onchange: (event) => { location.hash = `${page}/${encodeURIComponent(event.target.value)}`; } },
      names().map((name) => el("option", { value: name, selected: name === machine }, label(name))))));
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
  document.body.dataset.role = session.role; // what it may not do is not offered
  const logout = document.getElementById("logout");
  logout.hidden = !(session.password && session.open);
  text(logout, session.role === "admin" ? "Log out" : `You are ${session.role === "operator" ? "an operator" : "a viewer"}: log in as somebody else`);
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
feed.addEventListener("state", count);
feed.addEventListener("told", ({ detail }) => {
  if (detail.kind === "alarm") count();
  if (detail.kind === "alarm") for (const option of main.querySelectorAll("h1 + label option")) text(option, label(option.value));
  if (detail.kind === "event" && ["raised", "alert"].includes(detail.message.data.event)) {
    notice(`${detail.machine}: ${detail.message.data.event === "raised" ? "alarm" : "alert"}`, true);
    alarmSound();
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
soundSwitch(document.getElementById("ring"));
begin().catch((fault) => notice(fault.message, true));
