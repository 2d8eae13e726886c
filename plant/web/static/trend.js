// Medians and maxima of a machine's scores over a stretch of time, as a drawing and as a table read by keys.

import { act, el, get, moment, number } from "./dom.js";

const SPANS = [["1 day", 1], ["1 week", 7], ["1 month", 31], ["6 months", 183], ["1 year", 366]];
const LEFT = 44, TOP = 12, BOTTOM = 24;

export class Trend {
  constructor(device, name) {
    this.where = `scores/${encodeURIComponent(device)}/${encodeURIComponent(name)}`;
    this.days = 7;
    this.rows = [];
    this.read = el("output", { id: "trend-read" });
    this.drawing = el("svg:svg", { class: "trend", role: "application", tabindex: 0, "aria-label": "Scores; arrow keys read them", "aria-describedby": "trend-read" });
    this.drawing.addEventListener("pointermove", (event) => {
      const box = this.drawing.getBoundingClientRect();
      this.point(event.clientX - box.left);
    });
    new ResizeObserver(() => this.begin && this.draw()).observe(this.drawing);
    this.drawing.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -24, PageDown: 24, Home: -1e9, End: 1e9 }[event.key];
      if (!step || !this.rows.length) return;
      event.preventDefault();
      this.at = Math.max(0, Math.min(this.rows.length - 1, (this.at ?? this.rows.length) + step));
      this.say();
    });
    const buttons = SPANS.map(([words, days]) => el("button", { type: "button", "aria-pressed": String(days === this.days), onclick: act(async (event) => {
      this.days = days;
      for (const one of buttons) one.setAttribute("aria-pressed", String(one === event.currentTarget || one.textContent === words));
      await this.load();
      return null;
    }) }, words));
    this.node = el("section", { class: "card", "aria-labelledby": "h-trend" }, el("div", { class: "row" }, el("h2", { id: "h-trend" }, "Scores"), el("div", { class: "row", role: "group", "aria-label": "How long" }, buttons)),
      this.drawing, this.read, el("p", { class: "dim" }, "Thick: median of each stretch; thin: highest; dashed: the threshold, 1."));
  }

  async load() {
    const end = new Date(), begin = new Date(end - this.days * 86400e3);
    const { scores } = await get(`${this.where}?${new URLSearchParams({ begin: begin.toISOString(), end: end.toISOString() })}`);
    [this.rows, this.begin, this.end, this.at] = [scores, begin.getTime(), end.getTime(), null];
    this.draw();
  }

  x(row) {
    return LEFT + ((Date.parse(row.start) + row.seconds * 500 - this.begin) / (this.end - this.begin)) * (this.width - LEFT);
  }

  // In the screen's own pixels: letters are not stretched.
  draw() {
    const { width, height } = this.drawing.getBoundingClientRect();
    Object.assign(this, { width, height });
    const told = this.rows.flatMap((row) => [row.median, row.maximum]).filter((value) => value !== null);
    this.low = Math.min(0, ...told);
    this.high = Math.max(1.2, ...told);
    const y = (value) => (1 - (value - this.low) / (this.high - this.low)) * (height - BOTTOM - TOP - 4) + TOP;
    const line = (name) => {
      let path = "", before = null;
      for (const row of this.rows) {
        if (row[name] === null) continue;
        const gap = before === null || Date.parse(row.start) - before > 3 * row.seconds * 1000;
        path += `${gap ? "M" : "L"}${this.x(row).toFixed(1)} ${y(row[name]).toFixed(1)}`;
        before = Date.parse(row.start);
      }
      return el("svg:path", { class: name, d: path, "vector-effect": "non-scaling-stroke" });
    };
    const marks = [this.low, 1, this.high].map((value) => el("svg:text", { x: 2, y: y(value) + 4 }, number(value, 2)));
    const days = [0, 0.25, 0.5, 0.75].map((share) => {
      const at = new Date(this.begin + share * (this.end - this.begin)), x = LEFT + share * (width - LEFT);
      return [el("svg:line", { class: "grid", x1: x, x2: x, y1: 0, y2: height - BOTTOM }), el("svg:text", { x: x + 3, y: height - 6 }, this.days <= 1 ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : at.toLocaleDateString())];
    });
    this.cursor = el("svg:line", { class: "cursor", y1: 0, y2: height - BOTTOM, visibility: "hidden" });
    this.drawing.replaceChildren(...days.flat(), ...marks, el("svg:line", { class: "threshold", x1: LEFT, x2: width, y1: y(1), y2: y(1) }), line("maximum"), line("median"), this.cursor);
    this.read.textContent = this.rows.length ? `${this.rows.length} stretches of ${this.rows[0].seconds / 60} min` : "No scores of this time.";
  }

  point(x) {
    if (!this.rows.length) return;
    this.at = this.rows.reduce((best, row, i) => (Math.abs(this.x(row) - x) < Math.abs(this.x(this.rows[best]) - x) ? i : best), 0);
    this.say();
  }

  say() {
    const row = this.rows[this.at], x = this.x(row);
    for (const name of ["x1", "x2"]) this.cursor.setAttribute(name, x);
    this.cursor.setAttribute("visibility", "visible");
    this.read.textContent = `${moment(row.start)}: median ${number(row.median)}, highest ${number(row.maximum)}, ${row.exceeded} of ${row.judged} windows above the threshold`;
  }
}
