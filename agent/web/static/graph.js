// A stretch of the past: a line in its band, a threshold, and strips for state and level.

import { colour, fit, number, words } from "./dom.js";
import { timeTicks } from "./ticks.js";

const LEFT = 54, RIGHT = 10, TOP = 16, BOTTOM = 34;

export class Graph {
  // `keys`: names in the data of {low, middle, high, threshold}; `unit` for the readout.
  constructor(canvas, readout, keys, unit = "") {
    this.canvas = canvas;
    this.readout = readout;
    this.keys = keys;
    this.unit = unit;
    this.data = null;
    this.cursor = null;
    this.picked = null; // seconds since the epoch: the point that was touched last, or read by keyboard
    canvas.tabIndex = 0;
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerdown", (event) => {
      this.point(event.offsetX);
      this.picked = this.cursor === null ? null : this.data.time[this.cursor];
    });
    canvas.addEventListener("pointerleave", () => this.look(null));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.look(null));
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(data) {
    this.data = data;
    if (this.cursor !== null) this.cursor = Math.min(this.cursor, data.time.length - 1);
    this.draw();
  }

  // Add what was just told to the right end.
  add(point) {
    const data = this.data;
    if (!data) return;
    for (const name of Object.keys(point)) if (Array.isArray(data[name])) data[name].push(point[name]);
    const span = data.end - data.begin;
    data.end = Math.max(data.end, point.time);
    data.begin = data.end - span;
    while (data.time.length && data.time[0] < data.begin) {
      for (const value of Object.values(data)) if (Array.isArray(value)) value.shift();
    }
    this.draw();
  }

  key(event) {
    const count = this.data ? this.data.time.length : 0;
    if (!count) return;
    const at = this.cursor === null ? count - 1 : this.cursor;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 50, PageDown: at + 50, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.look(Math.max(0, Math.min(count - 1, to)));
    this.picked = this.cursor === null ? null : this.data.time[this.cursor];
  }

  point(x) {
    const data = this.data;
    if (!data || !data.time.length) return;
    const time = data.begin + ((x - LEFT) / (this.canvas.clientWidth - LEFT - RIGHT)) * (data.end - data.begin);
    let best = 0;
    for (let i = 1; i < data.time.length; i += 1) if (Math.abs(data.time[i] - time) < Math.abs(data.time[best] - time)) best = i;
    this.look(best);
  }

  look(index) {
    this.cursor = index;
    this.draw();
    if (index === null) return this.summary();
    const { data, keys } = this, value = data[keys.middle][index];
    const parts = [words.full(data.time[index])];
    if (value === null) parts.push(data.invalid[index] ? `not judged: ${data.invalid[index].replaceAll("_", " ")}` : "nothing");
    else if (keys.low && data[keys.high][index] !== data[keys.low][index]) {
      parts.push(`${number(value)}${this.unit} (${number(data[keys.low][index])} to ${number(data[keys.high][index])})`);
    } else parts.push(`${number(value)}${this.unit}`);
    parts.push(`threshold ${number(data[keys.threshold][index])}`, data.level[index], data.state[index]);
    if (data.estimated?.[index] && value !== null) parts.push("put on this scale since");
    this.readout.textContent = parts.join(" · ");
  }

  summary() {
    const values = this.data ? this.data[this.keys.high || this.keys.middle].filter((value) => value !== null) : [];
    this.readout.textContent = values.length ? `${values.length} points, highest ${number(Math.max(...values))}${this.unit}. ${finger() ? "Touch it to read" : "Arrow keys read"} single points.` : "Nothing kept of this stretch yet.";
  }

  draw() {
    const { pen, width, height } = fit(this.canvas);
    pen.clearRect(0, 0, width, height);
    const data = this.data;
    if (!data || width < 80) return;
    if (this.cursor === null) this.summary();
    const { keys } = this, high = data[keys.high || keys.middle], low = data[keys.low || keys.middle];
    const values = [...high, ...low, ...data[keys.threshold]].filter((value) => value !== null && Number.isFinite(value));
    const bottom = height - BOTTOM, right = width - RIGHT, span = data.end - data.begin || 1;
    const x = (time) => LEFT + ((time - data.begin) / span) * (right - LEFT);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = colour("--soft");
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    let from = Math.min(...values, Infinity), to = Math.max(...values, -Infinity);
    if (!values.length) [from, to] = [0, 1];
    const limit = Math.max(...data[keys.threshold].filter((value) => value !== null), 0);
    // Far above the threshold decades count, below it differences do.
    const steep = limit > 0 && to > 8 * limit;
    const turn = steep ? (value) => (value <= limit ? value / limit : 1 + Math.log10(value / limit)) : (value) => value;
    from = Math.min(from, 0);
    if (!steep) to += (to - from) * 0.1 || 1;
    else {
      from = Math.max(from, -2 * limit); // what is far below the threshold is all the same
      to *= 1.5;
    }
    const y = (value) => bottom - ((turn(Math.max(value, from)) - turn(from)) / (turn(to) - turn(from) || 1)) * (bottom - TOP);
    pen.textAlign = "right";
    for (const value of steep ? [0, limit, ...decades(3 * limit, to)] : ticks(from, to, height < 170 ? 3 : 5)) {
      pen.fillText(number(value), LEFT - 6, y(value));
      line(pen, LEFT, y(value), right, y(value));
    }
    pen.textAlign = "center";
    const times = timeTicks(data.begin, data.end, Math.max(2, Math.floor((right - LEFT) / 90)));
    for (const time of times) {
      const words_ = words.tick(time, span), half = pen.measureText(words_).width / 2;
      if (x(time) - half < 0 || x(time) + half > width) continue;
      pen.fillText(words_, x(time), height - 8);
      line(pen, x(time), bottom, x(time), bottom + 4);
    }
    this.canvas.dataset.ticks = JSON.stringify(times);
    pen.textAlign = "left";
    if (steep) pen.fillText("logarithmic above the threshold", LEFT + 4, 7);
    const wide = Math.max(data.step * 2.5, span / 400);
    this.strips(pen, x, bottom);
    if (keys.low) this.band(pen, x, y, wide);
    pen.strokeStyle = colour("--accent");
    pen.lineWidth = 1.6;
    this.path(pen, data[keys.middle], x, y, wide);
    pen.setLineDash([7, 4]);
    pen.strokeStyle = colour("--alarm");
    this.path(pen, data[keys.threshold], x, y, Infinity, right);
    pen.setLineDash([]);
    if (this.cursor !== null && data.time.length) {
      const at = x(data.time[this.cursor]), value = data[keys.middle][this.cursor];
      pen.strokeStyle = colour("--ink");
      line(pen, at, TOP, at, bottom);
      if (value !== null) {
        pen.beginPath();
        pen.arc(at, y(value), 4, 0, 7);
        pen.stroke();
      }
    }
    this.canvas.dataset.points = String(data.time.length);
  }

  // With an `edge` the line is drawn from end to end, also where nothing was heard.
  path(pen, values, x, y, wide, edge = null) {
    // What is evaluated now and then is joined all the same; a gap is three times the usual step.
    const heard = this.data.time.filter((_, i) => values[i] !== null);
    const steps = heard.slice(1).map((time, i) => time - heard[i]).sort((one, other) => one - other);
    if (steps.length) wide = Math.max(wide, 3 * steps[Math.floor(steps.length / 2)]);
    pen.beginPath();
    let last = null, height = null;
    this.data.time.forEach((time, i) => {
      const value = values[i];
      if (value === null) return;
      height = y(value);
      if (last === null || time - last > wide) pen.moveTo(last === null && edge !== null ? LEFT : x(time), height);
      pen.lineTo(x(time), height);
      last = time;
    });
    if (edge !== null && height !== null) pen.lineTo(edge, height);
    pen.stroke();
  }

  band(pen, x, y, wide) {
    const { time } = this.data, low = this.data[this.keys.low], high = this.data[this.keys.high];
    pen.fillStyle = colour("--band");
    let run = [];
    const fill = () => {
      if (run.length > 1) {
        pen.beginPath();
        for (const i of run) pen.lineTo(x(time[i]), y(high[i]));
        for (const i of run.reverse()) pen.lineTo(x(time[i]), y(low[i]));
        pen.fill();
      }
      run = [];
    };
    time.forEach((at, i) => {
      if (high[i] === null) return;
      if (run.length && at - time[run[run.length - 1]] > wide) fill();
      run.push(i);
    });
    fill();
  }

  // Above the time axis: full for an alarm, half for an alert; below: idle plain, not judged hatched.
  strips(pen, x, bottom) {
    const { time, level, state, invalid, step } = this.data;
    time.forEach((at, i) => {
      const left = x(at), wide = Math.max(1.5, x(at + step) - left);
      if (level[i] !== "normal") {
        pen.fillStyle = colour(level[i] === "alarm" ? "--alarm" : "--alert");
        pen.fillRect(left, level[i] === "alarm" ? bottom + 1 : bottom + 4, wide, level[i] === "alarm" ? 6 : 3);
      }
      if (state[i] === "idle" || invalid[i]) {
        pen.fillStyle = colour("--idle");
        if (!invalid[i]) pen.fillRect(left, bottom + 9, wide, 4);
        else if (Math.floor(left / 3) % 2) pen.fillRect(left, bottom + 9, Math.min(wide, 2), 5);
      }
    });
  }
}

const finger = () => matchMedia("(pointer: coarse)").matches;

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

function ticks(from, to, most) {
  const raw = (to - from) / most || 1, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((one) => one >= raw);
  const found = [];
  for (let value = Math.ceil(from / step) * step; value <= to; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}

function decades(from, to) {
  const found = [];
  const step = Math.ceil((Math.log10(to) - Math.log10(from)) / 5) || 1;
  for (let power = Math.ceil(Math.log10(from)); 10 ** power <= to; power += step) found.push(10 ** power);
  return found;
}
