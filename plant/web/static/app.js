// Which page is shown; logging in; the stream of what changes.

import { act, el, get, notice, send, text } from "./dom.js";
import { DevicesView, ExportView, InboxView, MachinesView, MachineView, UsersView } from "./views.js";

const PAGES = [["machines", "Machines", MachinesView, "viewer"], ["alarms", "Alarms", InboxView, "viewer"], ["devices", "Devices", DevicesView, "viewer"], ["export", "Export", ExportView, "viewer"], ["users", "Users", UsersView, "admin"], ["machine", "", MachineView, null]];
const main = document.getElementById("main"), link = document.getElementById("link");
let session = null, shown = null, stream = null, counts = null;

async function show() {
  if (!session?.user) return;
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const page = PAGES.find(([one]) => one === name) || PAGES[0];
  shown?.hide?.();
  main.replaceChildren(...(page[1] ? [el("h1", { class: "unseen" }, page[1])] : []));
  shown = new page[2](session, rest);
  const mine = shown;
  document.getElementById("pages").replaceChildren(...PAGES.filter(([, , , role]) => role === "viewer" || (role && role === session.role)).map(([one, words]) => el("a", { href: `#${one}`, "aria-current": one === page[0] ? "page" : null }, words, one === "alarms" ? el("span", { class: "count", id: "standing", hidden: true }) : null)));
  count();
  try {
    await mine.show(main);
  } catch (fault) {
    if (shown === mine) main.replaceChildren(el("p", { class: "card", role: "alert" }, fault.message));
  }
}

function count() {
  const number = counts ? counts.alarms + counts.alerts : 0, badge = document.getElementById("standing");
  document.title = `${number ? `(${number}) ` : ""}${session.plant}`;
  if (!badge) return;
  badge.hidden = !number;
  badge.replaceChildren(String(number), el("span", { class: "unseen" }, " in alarm or alert"));
}

function follow() {
  stream?.close();
  stream = new EventSource("api/stream");
  stream.addEventListener("open", () => {
    link.classList.add("on");
    text(link, "connected");
    get("counts").then((found) => {
      counts = found;
      count();
    }).catch(() => {});
  });
  stream.addEventListener("error", () => {
    link.classList.remove("on");
    text(link, "connection lost, trying again");
    get("session").then((now) => now.user || locked()).catch(() => {});
  });
  stream.addEventListener("machines", ({ data }) => shown?.machines?.(JSON.parse(data)));
  stream.addEventListener("behind", () => shown?.load?.());
  stream.addEventListener("counts", ({ data }) => {
    counts = JSON.parse(data);
    count();
    shown?.count?.(counts);
  });
}

function locked() {
  stream?.close();
  shown?.hide?.();
  [stream, shown, session] = [null, null, { ...session, user: null }];
  document.getElementById("pages").replaceChildren();
  document.getElementById("logout").hidden = true;
  if (document.getElementById("name")) return;
  const name = el("input", { id: "name", autocomplete: "username", required: true, maxlength: 100 });
  const password = el("input", { id: "password", type: "password", autocomplete: "current-password", required: true });
  main.replaceChildren(el("form", { class: "card", onsubmit: act(async () => {
    await send("login", { name: name.value, password: password.value });
    await begin();
    return null;
  }) }, el("h1", {}, "Log in"), el("label", {}, "Name", name), el("label", {}, "Password", password), el("button", { class: "main", type: "submit" }, "Log in"), el("p", { class: "dim" }, "Users are added with `auscult plant user add`.")));
  name.focus();
}

async function begin() {
  session = await get("session");
  document.title = session.plant;
  text(document.getElementById("plant"), session.plant);
  text(document.getElementById("version"), `auscult ${session.version}`);
  text(document.getElementById("who"), session.user ? `${session.user}, ${session.role}` : "");
  if (!session.user) return locked();
  document.getElementById("logout").hidden = false;
  follow();
  return show();
}

window.addEventListener("locked", locked);
window.addEventListener("hashchange", show);
document.getElementById("logout").addEventListener("click", act(async () => {
  await send("logout");
  locked();
  return null;
}));
begin().catch((fault) => notice(fault.message, true));
