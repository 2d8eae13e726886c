// Drift in words and pictures: two spectra in one, the bands over the days, the sound then and now.

import { get } from "./api.js";
import { colour, el, fit, moment, number } from "./dom.js";
import { signed } from "./words.js";

const LEFT = 46, RIGHT = 10, TOP = 12, BOTTOM = 26;

export const bandWords = ({ low_hz: low, high_hz: high, decibels }) => `${high < 1000 ? `${Math.round(low)} to ${Math.round(high)} Hz` : `${(low / 1000).toFixed(1)} to ${(high / 1000).toFixed(1)} kHz`} ${signed(decibels)} dB`;

const dayName = (date) => new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" }).format(date);

// A change that came and went; days are by UTC, as in the picture, hours by the clock on the wall.
function passedWords({ bands, begin, end, by_day: byDay }) {
  const from = new Date(begin), to = new Date(end), last = dayName(new Date(to - 1));
  const days = dayName(from) === last ? last : `${dayName(from)} to ${last}`;
  return `No band of its spectrum stands out now; some did (${byDay ? days : `${moment(begin)} to ${moment(end)}`}): ${bands.map(bandWords).join(", ")}.`;
}

export class Spectra {
  constructor(machine) {
    this.place = `machines/${encodeURIComponent(machine)}/drift`;
    this.found = null;
    this.said = el("p", { id: "drift-bands" });
    this.canvas = el("canvas", { class: "graph small", role: "img", id: "spectra", "aria-label": "Level by frequency, healthy and now" });
    this.days = el("canvas", { class: "graph small", role: "img", id: "drift-days", "aria-label": "Change of each band over the days" });
    this.sounds = el("div", { class: "two" });
    this.dayPart = el("div", {}, el("h3", {}, "Bands over the days"), this.days, el("ul", { class: "legend" }, el("li", {}, "warm: louder than healthy; cold: quieter; full colour from 10 dB on")));
    this.node = el("div", { class: "stackup", hidden: true }, this.said, el("h3", {}, "Spectrum then and now"), this.canvas,
      el("ul", { class: "legend" }, el("li", {}, "thin line in its band: healthy, two deviations either way"), el("li", {}, "thick line: the last minutes of running"), el("li", {}, "dashed: as accepted last, if anything was")), this.dayPart, this.sounds);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  async load(signal) {
    try {
      const found = await get(`${this.place}/spectrum`);
      if (signal.aborted) return;
      this.found = found;
    } catch {
      return; // a bundle without a healthy spectrum, or nothing heard yet
    }
    const { found } = this, words = found.bands.map(bandWords).join(", ");
    this.node.hidden = false;
    this.said.textContent = words ? `Changed against ${found.accepted ? "accepted" : "healthy"} sound: ${words}.` : found.passed ? passedWords(found.passed) : found.now ? "No band of its spectrum stands out." : "Too little was heard since the agent's start to say.";
    this.canvas.setAttribute("aria-label", `Level by frequency, healthy and now. ${this.said.textContent}`);
    this.days.setAttribute("aria-label", `Change of each band on ${found.days.length} days against healthy sound`);
    this.dayPart.hidden = !found.days.length;
    if (!this.sounds.children.length) {
      const player = (which, title) => el("div", {}, el("h3", {}, title), el("audio", { controls: true, preload: "none", src: `api/${this.place}/${which}.flac`, "aria-label": title }));
      this.sounds.replaceChildren(...[found.then_sound ? player("then", "Then: healthy sound of its training") : null, found.now_sound ? player("now", "Now: the ten seconds heard last") : null].filter(Boolean));
    }
    this.draw();
  }

  draw() {
    if (!this.found || this.node.hidden) return;
    this.lines();
    this.heat();
  }

  lines() {
    const { pen, width, height } = fit(this.canvas), { edges_hz: edges, healthy, spread, now, accepted } = this.found;
    pen.clearRect(0, 0, width, height);
    const x = scale(edges, width), middle = healthy.map((_, i) => x(Math.sqrt(edges[i] * edges[i + 1])));
    const values = [...healthy, ...(now || []), ...(accepted || [])], from = Math.min(...values) - 4, to = Math.max(...values) + 4;
    const y = (level) => TOP + ((to - level) / (to - from)) * (height - TOP - BOTTOM);
    axes(pen, x, edges, width, height);
    pen.textAlign = "right";
    for (let level = Math.ceil(from / 20) * 20; level <= to; level += 20) pen.fillText(`${level} dB`, LEFT - 5, y(level));
    pen.fillStyle = colour("--band");
    pen.beginPath();
    middle.forEach((at, i) => pen.lineTo(at, y(healthy[i] + 2 * spread[i])));
    for (let i = middle.length - 1; i >= 0; i -= 1) pen.lineTo(middle[i], y(healthy[i] - 2 * spread[i]));
    pen.fill();
    const line = (levels, name, thick, dashes = []) => {
      if (!levels) return;
      pen.strokeStyle = colour(name);
      pen.lineWidth = thick;
      pen.setLineDash(dashes);
      pen.beginPath();
      levels.forEach((level, i) => pen.lineTo(middle[i], y(level)));
      pen.stroke();
      pen.setLineDash([]);
    };
    line(healthy, "--accent", 1.2);
    line(accepted, "--soft", 1.4, [5, 4]);
    line(now, "--alarm", 2.4);
    this.canvas.dataset.lines = String(1 + Boolean(now) + Boolean(accepted));
  }

  heat() {
    const { pen, width, height } = fit(this.days), { edges_hz: edges, healthy, days } = this.found;
    pen.clearRect(0, 0, width, height);
    if (!days.length) return;
    const bands = healthy.length, left = LEFT + 6, step = Math.min(40, (width - left - RIGHT) / days.length), bottom = height - BOTTOM;
    const y = (hz) => bottom - (Math.log(hz / edges[0]) / Math.log(edges[bands] / edges[0])) * (bottom - TOP);
    days.forEach(({ levels }, d) => levels.forEach((level, i) => {
      const change = level - healthy[i];
      pen.globalAlpha = Math.min(1, Math.abs(change) / 10);
      pen.fillStyle = colour(change > 0 ? "--alarm" : "--accent");
      pen.fillRect(left + d * step, y(edges[i + 1]), step - 1, y(edges[i]) - y(edges[i + 1]) + 0.5);
    }));
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--line");
    pen.strokeRect(left - 0.5, TOP - 0.5, step * days.length, bottom - TOP);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = colour("--soft");
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const hz of DECADES) if (hz > edges[0] && hz < edges[bands]) pen.fillText(kilo(hz), left - 5, y(hz));
    pen.textAlign = "left";
    const name = (iso) => dayName(new Date(`${iso}T00:00Z`));
    pen.fillText(name(days[0].day), left, height - 10);
    if (days.length > 3) {
      pen.textAlign = "right";
      pen.fillText(name(days[days.length - 1].day), Math.max(left + 110, left + step * days.length), height - 10);
    }
    this.days.dataset.days = String(days.length);
  }
}

const DECADES = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];
const kilo = (hz) => (hz < 1000 ? `${hz} Hz` : `${number(hz / 1000)} kHz`);

function scale(edges, width) {
  const low = Math.log(edges[0]), high = Math.log(edges[edges.length - 1]);
  return (hz) => LEFT + ((Math.log(hz) - low) / (high - low)) * (width - LEFT - RIGHT);
}

function axes(pen, x, edges, width, height) {
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = colour("--soft");
  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "center";
  let last = -99;
  for (const hz of DECADES) {
    if (hz < edges[0] || hz > edges[edges.length - 1]) continue;
    pen.beginPath();
    pen.moveTo(x(hz), TOP);
    pen.lineTo(x(hz), height - BOTTOM);
    pen.stroke();
    if (x(hz) - last < 52 || x(hz) + 22 > width) continue;
    pen.fillText(kilo(hz), x(hz), height - 10);
    last = x(hz);
  }
}
