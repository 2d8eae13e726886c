// The pages: machines, alarms, one machine, devices, exports, users.

import { actions } from "./actions.js";
import { act, ask, cell, el, get, head, moment, number, send } from "./dom.js";
import { Trend } from "./trend.js";
import { badge, commandLine, eventLine, place, remarks } from "./words.js";

const STEP = 100;
const MOST_DEVICES = 200;

function card(title, ...children) {
  const id = `h-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  return el("section", { class: "card", "aria-labelledby": id }, el("h2", { id }, title), ...children);
}

// A long list: found by name, site and state, a hundred at a time.
class Paged {
  constructor(session, state) {
    this.session = session;
    this.wanted = { text: "", site: "", state, offset: 0 };
  }

  paged(title, states, list) {
    const choose = (name, label, options) => el("label", {}, label, el("select", { name, onchange: (event) => this.want(name, event.target.value) }, options.map(([value, words]) => el("option", { value, selected: value === this.wanted[name] }, words))));
    let timer = 0;
    const search = el("input", { type: "search", name: "text", placeholder: "device or machine", oninput: (event) => {
      clearTimeout(timer);
      timer = setTimeout(() => this.want("text", event.target.value), 250);
    } });
    this.number = el("span", { class: "dim", role: "status" });
    this.more = el("button", { type: "button", onclick: act(() => this.want("offset", this.wanted.offset + STEP)) }, "Next");
    this.less = el("button", { type: "button", onclick: act(() => this.want("offset", Math.max(0, this.wanted.offset - STEP))) }, "Previous");
    return el("section", { class: "card", "aria-labelledby": "h-paged" }, el("div", { class: "row" }, el("h2", { id: "h-paged" }, title), this.number, el("label", {}, "Find", search),
      this.session.sites.length ? choose("site", "Site", [["", "all"], ...this.session.sites.map((one) => [one, one])]) : null,
      choose("state", "State", states)), list, el("div", { class: "row" }, this.less, this.more));
  }

  async want(name, value) {
    this.wanted[name] = value;
    if (name !== "offset") this.wanted.offset = 0;
    await this.load();
    return null;
  }

  // Asked for at once; what changes while it is asked for comes a moment later.
  async page(path) {
    return get(`${path}?${new URLSearchParams({ ...this.wanted, limit: STEP })}`);
  }

  tell(shown, all) {
    const first = this.wanted.offset + 1, last = this.wanted.offset + shown;
    this.number.textContent = all ? `${first} to ${last} of ${all}` : "none";
    this.less.disabled = first <= 1;
    this.more.disabled = last >= all;
  }

  again(seconds, node) {
    this.soon ||= setTimeout(() => {
      this.soon = 0;
      if (node.isConnected && !document.hidden) this.load().catch(() => {});
    }, 1000 * seconds);
  }
}

export class MachinesView extends Paged {
  constructor(session, rest) {
    super(session, rest[0] || "any");
  }

  async show(root) {
    this.counts = el("div", { class: "tiles" });
    this.body = el("tbody", {});
    root.append(this.counts, this.paged("Machines, the worst first", [["any", "any"], ["alarm", "in alarm or alert"], ["sensor", "microphone troubled"], ["drift", "drifting"], ["offline", "device offline"]],
      el("table", { id: "machines" }, head("Machine", "State", "Score", "Last heard", "Remarks"), this.body)));
    await this.load();
  }

  async load() {
    const { machines, number: all, counts } = await this.page("machines");
    this.rows = machines;
    this.all = all;
    this.draw();
    this.count(counts);
  }

  draw() {
    this.tell(this.rows.length, this.all);
    this.body.replaceChildren(...this.rows.map((one) => el("tr", { "data-machine": `${one.device}/${one.name}` },
      cell("Machine", el("a", { href: `#${place(one)}` }, one.name), " ", el("span", { class: "dim" }, `${one.device}${one.site ? `, ${one.site}` : ""}`)),
      cell("State", badge(one)), el("td", { class: "number", "data-label": "Score" }, el("span", {}, number(one.latest))), cell("Last heard", moment(one.heard)), cell("Remarks", remarks(one)))));
  }

  count(counts) {
    const tile = (words, value, kind, state) => el("a", { class: `card tile ${value ? kind : "good"}`, href: `#machines/${state}` }, el("strong", { class: "figure" }, String(value)), words);
    this.counts.replaceChildren(tile("machines", counts.machines, "good", "any"), tile("alarms", counts.alarms, "alarm", "alarm"), tile("alerts", counts.alerts, "alert", "alarm"), tile("microphones troubled", counts.sensors, "alert", "sensor"), tile("drifting", counts.drifting, "alert", "drift"), tile("devices offline", counts.offline, "alert", "offline"));
  }

  // In place where it is shown; the order is made anew a moment later.
  machines(changed) {
    if (!this.rows) return; // the first page is still on its way, and newer
    for (const one of changed) {
      const known = this.rows.findIndex((row) => row.id === one.id);
      if (known >= 0) this.rows[known] = one;
    }
    this.draw();
    this.again(3, this.body);
  }
}

export class InboxView extends Paged {
  constructor(session) {
    super(session, "alarm");
  }

  async show(root) {
    this.list = el("ul", { class: "list inbox", id: "inbox" });
    this.empty = el("p", { class: "dim" }, "No such alarm stands.");
    this.commands = el("ul", { class: "list", id: "commands" });
    this.events = el("ul", { class: "list" });
    root.append(this.paged("Alarms that stand, the worst first", [["alarm", "all that stand"], ["unseen", "not acknowledged"], ["shelved", "shelved"]], el("div", {}, this.empty, this.list)), card("What was asked, and what the devices answered", this.commands), card("What happened last", this.events));
    await this.load();
    this.timer = setInterval(() => this.list.isConnected && !document.hidden && this.load().catch(() => {}), 5000);
  }

  hide() {
    clearInterval(this.timer);
  }

  async load() {
    const [{ alarms, number: all, commands }, { events }] = await Promise.all([this.page("inbox"), get("events?limit=50")]);
    this.all = all;
    this.alarms = new Map(alarms.map((one) => [one.id, one]));
    this.draw();
    this.commands.replaceChildren(...commands.map((one) => commandLine(one, true)));
    this.events.replaceChildren(...events.map((one) => eventLine(one, true)));
  }

  draw() {
    const sorted = [...this.alarms.values()].sort((one, other) => other.rank - one.rank || Date.parse(other.since) - Date.parse(one.since)).slice(0, STEP);
    this.tell(sorted.length, Math.max(this.all, sorted.length));
    this.empty.hidden = sorted.length > 0;
    const key = JSON.stringify(sorted.map((one) => [one.id, one.alarm_id, one.acknowledged, one.shelving, one.latched, one.reason, one.muted_until, one.status]));
    if (key === this.drawn) return; // not under somebody's finger
    this.drawn = key;
    this.list.replaceChildren(...sorted.map((one) => el("li", { "data-alarm": one.alarm_id },
      el("div", {}, el("p", {}, el("a", { href: `#${place(one)}` }, el("strong", {}, one.name), `, ${one.device}${one.site ? `, ${one.site}` : ""}`), " since ", moment(one.since), " ", badge(one)), el("p", { class: "dim" }, [one.score === null ? "" : `score ${number(one.score)}${one.zone ? `, zone ${one.zone}` : ""}`, remarks(one)].filter(Boolean).join(" · "))),
      el("div", { class: "row" }, actions(one, this.session)))));
  }

  machines(changed) {
    if (!this.alarms) return;
    const { text, site, state, offset } = this.wanted, whole = !text && !site && state === "alarm" && !offset;
    for (const one of changed) {
      if (!one.alarm_id) this.alarms.delete(one.id);
      else if (whole || this.alarms.has(one.id)) this.alarms.set(one.id, one);
    }
    this.draw();
    this.again(whole ? 3 : 1, this.list);
  }
}

export class MachineView {
  constructor(session, rest) {
    this.session = session;
    [this.device, this.name] = rest;
  }

  async show(root) {
    this.trend = new Trend(this.device, this.name);
    this.about = el("div", {});
    this.lists = el("div", { class: "stack" });
    root.append(this.about, this.trend.node, this.lists);
    await this.load();
    await this.trend.load();
    this.timer = setInterval(() => this.about.isConnected && !document.hidden && this.load().catch(() => {}), 5000);
  }

  hide() {
    clearInterval(this.timer);
  }

  async load() {
    const found = await get(`machines/${encodeURIComponent(this.device)}/${encodeURIComponent(this.name)}`);
    const key = JSON.stringify(found);
    if (key === this.known) return;
    this.known = key;
    const { machine: one, events, commands } = found, info = one.states.info?.message.machines?.[this.name];
    const facts = [["Device", `${one.device}${one.site ? `, ${one.site}` : ""}: ${one.status || "not known"}${one.status_reason ? ` (${one.status_reason})` : ""}`], ["Since", moment(one.since)], ["Score", `${number(one.latest)} at ${moment(one.heard) || "–"} (1 is the threshold)`], ["Microphone", one.sensor ? `${one.sensor.replaceAll("_", " ")} ${one.sensor_reason || ""}` : "not known"], ["Drift", one.drift === null ? "not followed" : one.drift ? "a warning stands" : "none"]];
    if (info) facts.push(["Bundle", `${info.bundle}, of ${info.created}, ${info.encoder}`]);
    if (one.alarm_id) facts.push(["Why", one.reason || "not known"]);
    this.about.replaceChildren(el("section", { class: "card" }, el("div", { class: "row" }, el("h1", {}, `${one.name}, ${one.device}`), badge(one)), el("div", { class: "row" }, actions(one, this.session)), el("dl", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))));
    this.lists.replaceChildren(card("Commands", commands.length ? el("ul", { class: "list", id: "commands" }, commands.map((each) => commandLine(each))) : el("p", { class: "dim" }, "None was given here.")), card("What happened", events.length ? el("ul", { class: "list" }, events.map((each) => eventLine(each))) : el("p", { class: "dim" }, "Nothing yet.")));
  }

  machines(changed) {
    if (changed.some((one) => one.device === this.device && one.name === this.name)) this.load().catch(() => {});
  }
}

export class DevicesView {
  async show(root) {
    this.body = el("tbody", {});
    this.number = el("span", { class: "dim", role: "status" });
    this.search = el("input", { type: "search", name: "text", placeholder: "device or site", oninput: () => this.draw() });
    this.choice = el("select", { name: "state", onchange: () => this.draw() }, [["", "any"], ["offline", "offline"], ["missing", "with events that never came"]].map(([value, words]) => el("option", { value }, words)));
    root.append(el("section", { class: "card", "aria-labelledby": "h-devices" }, el("div", { class: "row" }, el("h2", { id: "h-devices" }, "Devices, those offline first"), this.number, el("label", {}, "Find", this.search), el("label", {}, "State", this.choice)),
      el("table", {}, head("Device", "State", "Version", "Events", "Never came"), this.body)));
    this.devices = (await get("devices")).devices;
    this.draw();
  }

  draw() {
    const text = this.search.value.trim().toLowerCase(), state = this.choice.value;
    const found = this.devices.filter((one) => `${one.name} ${one.site}`.toLowerCase().includes(text) && (!state || (state === "missing" ? one.missing : one.status === state)));
    const rows = found.slice(0, MOST_DEVICES);
    this.number.textContent = found.length > rows.length ? `the first ${rows.length} of ${found.length}: find others by name` : `${found.length}`;
    this.body.replaceChildren(...rows.map((one) => el("tr", {},
      cell("Device", one.name, " ", el("span", { class: "dim" }, one.site)), cell("State", el("span", { class: `badge ${one.status === "offline" ? "alert" : one.status ? "good" : "quiet"}` }, one.status === "offline" ? "○ offline" : one.status ? "● online" : "… not known"), one.status === "offline" ? ` since ${moment(one.status_at)} ${one.reason || ""}` : ""),
      cell("Version", one.version || ""), el("td", { class: "number", "data-label": "Events" }, el("span", {}, String(one.sequences))), cell("Never came", one.missing ? el("span", { class: "badge alarm" }, `✖ ${one.missing}`) : "0"))));
  }
}

export class ExportView {
  constructor(session) {
    this.session = session;
  }

  async show(root) {
    const day = (back) => new Date(Date.now() - back * 86400e3).toISOString().slice(0, 10);
    const what = el("select", { name: "what" }, [["events", "events"], ["minutes", "scores by five minutes"], ["hours", "scores by the hour"]].map(([value, words]) => el("option", { value }, words)));
    const format = el("select", { name: "format" }, [["csv", "CSV"], ["parquet", "Parquet"]].map(([value, words]) => el("option", { value }, words)));
    const begin = el("input", { type: "date", value: day(31) }), end = el("input", { type: "date", value: day(-1) });
    const site = el("select", { name: "site" }, ["", ...this.session.sites].map((one) => el("option", { value: one }, one || "all")));
    root.append(el("form", { class: "card", onsubmit: act(async () => {
      const query = new URLSearchParams({ format: format.value, begin: `${begin.value}T00:00:00Z`, end: `${end.value}T00:00:00Z` });
      if (site.value) query.set("site", site.value);
      location.assign(`api/export/${what.value}?${query}`);
      return null;
    }) }, el("h2", {}, "Export"), el("label", {}, "What", what), el("label", {}, "From (UTC)", begin), el("label", {}, "up to (UTC)", end), this.session.sites.length ? el("label", {}, "Site", site) : null, el("label", {}, "As", format), el("button", { class: "main", type: "submit" }, "Download")));
  }
}

export class UsersView {
  constructor(session) {
    this.session = session;
  }

  async show(root) {
    this.body = el("tbody", {});
    root.append(card("Users", el("table", { id: "users" }, head("Name", "Role", "Logs in by", "Added", "Change"), this.body), el("button", { type: "button", class: "main", onclick: () => this.edit({ name: "", role: "viewer" }) }, "Add a user…")));
    await this.load();
    const { refused } = await get("refused");
    root.append(card("Messages that could not be read", refused.length ? el("ul", { class: "list" }, refused.map((one) => el("li", {}, el("time", { datetime: one.received, class: "figure" }, moment(one.received)), el("strong", {}, one.topic), el("span", { class: "dim" }, one.reason)))) : el("p", { class: "dim" }, "None.")));
  }

  async load() {
    const { users } = await get("users");
    this.body.replaceChildren(...users.map((one) => el("tr", {}, cell("Name", one.name), cell("Role", one.role), cell("Logs in by", one.password ? "password" : "the proxy alone"), cell("Added", moment(one.created)),
      el("td", { "data-label": "Change" }, el("div", { class: "row" }, el("button", { type: "button", "aria-label": `Change ${one.name}`, onclick: () => this.edit(one) }, "Change…"), el("button", { type: "button", "aria-label": `Remove ${one.name}`, onclick: () => ask(`Remove ${one.name}?`, "Their sessions end at once.", [], async () => {
        await send(`users/${encodeURIComponent(one.name)}`, undefined, "DELETE");
        await this.load();
        return "Removed.";
      }, "Remove") }, "Remove…"))))));
  }

  edit(one) {
    const name = el("input", { name: "name", required: true, maxlength: 100, value: one.name, readonly: Boolean(one.name), autocomplete: "off" });
    const role = el("select", { name: "role" }, ["viewer", "operator", "admin"].map((each) => el("option", { value: each, selected: each === one.role }, each)));
    const password = el("input", { type: "password", name: "password", minlength: 8, autocomplete: "new-password" });
    ask(one.name ? `Change ${one.name}` : "Add a user", one.name ? "Without a password, the present one stays." : "Without a password they come by the reverse proxy alone.", [el("label", {}, "Name", name), el("label", {}, "Role", role), el("label", {}, "Password", password)], async () => {
      await send("users", { name: name.value.trim(), role: role.value, password: password.value || null });
      await this.load();
      return "Kept.";
    }, "Keep");
  }
}
