// A stretch of the past: a line in its band, a threshold, and strips for state and level.

import { axis, Chart, colour, finger, timeAxis } from "./charts/chart.js";
import { numberTicks } from "./charts/ticks.js";
import { number, words } from "./dom.js";

export class Graph extends Chart {
  // `keys`: names in the data of {low, middle, high, threshold}; `unit` for the readout.
  constructor(node, readout, keys, unit = "") {
    const columns = [keys.high, keys.low, keys.middle, keys.threshold].filter(Boolean), lines = columns.length - 2;
    super(node, readout, {
      say: (index) => this.point(index),
      summary: () => this.whole(),
      options: () => ({
        scales: {
          x: { time: false, range: () => [this.data.begin, this.data.end] },
          // Far above the threshold decades count, below it differences do.
          y: { distr: 100, fwd: (value) => this.turn(Math.max(value, this.from)), inv: (value) => this.back(value), range: () => [this.from, this.to] },
        },
        series: [{}, ...(lines ? [edge(this), edge(this)] : []),
          { stroke: () => colour("--accent"), width: 1.6, points: { show: false }, gaps: this.gaps() },
          { stroke: "transparent", points: { show: false } }], // the threshold goes from end to end: see strips
        bands: lines ? [{ series: [1, 2], fill: () => colour("--band") }] : [],
        axes: [timeAxis(words.tick, false, { gap: 16, size: 40 }), axis({ size: 54, gap: 4, splits: () => this.marks(), filter: (_, splits) => splits, values: (_, splits) => this.named(splits) })],
        hooks: { draw: [(plot) => this.strips(plot)] },
      }),
    });
    Object.assign(this, { keys, unit, columns, data: null });
    this.measure({ [keys.threshold]: [] });
  }

  show(data) {
    this.data = data;
    this.measure(data);
    super.show([data.time, ...this.columns.map((name) => data[name])]);
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
    this.show(data);
  }

  // The scale of y, and what counts as a gap.
  measure(data) {
    const { keys } = this, values = this.columns.flatMap((name) => data[name] || []).filter((value) => value !== null && Number.isFinite(value));
    this.limit = Math.max(...data[keys.threshold].filter((value) => value !== null), 0);
    let from = Math.min(...values, Infinity), to = Math.max(...values, -Infinity);
    if (!values.length) [from, to] = [0, 1];
    from = Math.min(from, 0);
    this.steep = this.limit > 0 && to > 8 * this.limit;
    if (!this.steep) to += (to - from) * 0.1 || 1;
    else {
      from = Math.max(from, -2 * this.limit); // what is far below the threshold is all the same
      to *= 1.5;
    }
    Object.assign(this, { from, to });
    // What is evaluated now and then is joined all the same; a gap is three times the usual step, and longer than
    // the calm step of `hop: auto`, five of its short ones, which may be the usual ones here.
    const heard = (data.time || []).filter((_, i) => data[keys.middle][i] !== null);
    const steps = heard.slice(1).map((time, i) => time - heard[i]).sort((one, other) => one - other);
    this.wide = Math.max((data.step || 0) * 2.5, ((data.end - data.begin) || 0) / 400, steps.length ? 3 * steps[Math.floor(steps.length / 2)] : 0, steps.length ? 5.5 * steps[Math.floor(steps.length / 10)] : 0);
  }

  turn(value) {
    return !this.steep ? value : value <= this.limit ? value / this.limit : 1 + Math.log10(value / this.limit);
  }

  back(value) {
    return !this.steep ? value : value <= 1 ? value * this.limit : this.limit * 10 ** (value - 1);
  }

  named(splits) {
    const found = splits.map((value) => number(value));
    this.node.dataset.marks = found.join(" ");
    return found;
  }

  marks() {
    return this.steep ? [0, this.limit, ...decades(3 * this.limit, this.to)] : numberTicks(this.from, this.to, this.node.clientHeight < 170 ? 3 : 5);
  }

  // Tells, of a column, from where to where in the canvas' pixels no line is drawn.
  gaps() {
    return (plot, column) => {
      const [time] = plot.data, values = plot.data[column], found = [];
      let last = null;
      time.forEach((at, i) => {
        if (values[i] === null) return;
        if (last !== null && at - last > this.wide) found.push([plot.valToPos(last, "x", true), plot.valToPos(at, "x", true)]);
        last = at;
      });
      return found;
    };
  }

  point(index) {
    const { data, keys } = this, value = data[keys.middle][index];
    const parts = [words.full(data.time[index])];
    if (value === null) parts.push(data.invalid[index] ? `not judged: ${data.invalid[index].replaceAll("_", " ")}` : "nothing");
    else if (keys.low && data[keys.high][index] !== data[keys.low][index]) {
      parts.push(`${number(value)}${this.unit} (${number(data[keys.low][index])} to ${number(data[keys.high][index])})`);
    } else parts.push(`${number(value)}${this.unit}`);
    parts.push(`threshold ${number(data[keys.threshold][index])}`, data.level[index], data.state[index]);
    if (data.estimated?.[index] && value !== null) parts.push("put on this scale since");
    return parts.join(" · ");
  }

  whole() {
    const values = this.data ? this.data[this.keys.high || this.keys.middle].filter((value) => value !== null) : [];
    return values.length ? `${values.length} points, highest ${number(Math.max(...values))}${this.unit}. ${finger() ? "Touch it to read" : "Arrow keys read"} single points.` : "Nothing kept of this stretch yet.";
  }

  // From end to end, also where nothing was heard.
  threshold(plot, pen, ratio) {
    const { time } = this.data, values = this.data[this.keys.threshold], { left, width } = plot.bbox;
    const known = time.map((at, i) => [at, values[i]]).filter(([, value]) => value !== null);
    if (!known.length) return;
    const y = (value) => plot.valToPos(value, "y", true);
    pen.strokeStyle = colour("--alarm");
    pen.lineWidth = 1.6 * ratio;
    pen.setLineDash([7 * ratio, 4 * ratio]);
    pen.beginPath();
    pen.moveTo(left, y(known[0][1]));
    for (const [at, value] of known) pen.lineTo(plot.valToPos(at, "x", true), y(value));
    pen.lineTo(left + width, y(known[known.length - 1][1]));
    pen.stroke();
    pen.setLineDash([]);
  }

  // Above the time axis: full for an alarm, half for an alert; below: idle plain, not judged hatched.
  strips(plot) {
    const { time, level, state, invalid, step } = this.data, pen = plot.ctx, ratio = devicePixelRatio || 1;
    const x = (at) => plot.valToPos(at, "x", true), bottom = plot.bbox.top + plot.bbox.height;
    pen.save();
    time.forEach((at, i) => {
      // Until the next window, however far it is at a hop that varies; a gap ends it.
      const next = time[i + 1] - at, left = Math.floor(x(at)), wide = Math.max(Math.ceil(1.5 * ratio), Math.floor(x(at + (next <= this.wide ? next : step))) - left);
      if (level[i] !== "normal") {
        pen.fillStyle = colour(level[i] === "alarm" ? "--alarm" : "--alert");
        pen.fillRect(left, bottom + (level[i] === "alarm" ? 1 : 4) * ratio, wide, (level[i] === "alarm" ? 6 : 3) * ratio);
      }
      if (state[i] === "idle" || invalid[i]) {
        pen.fillStyle = colour("--idle");
        if (!invalid[i]) pen.fillRect(left, bottom + 9 * ratio, wide, 4 * ratio);
        else for (let line = Math.ceil(left / (6 * ratio)) * 6 * ratio; line < left + wide; line += 6 * ratio) pen.fillRect(line, bottom + 9 * ratio, 2 * ratio, 5 * ratio);
      }
    });
    this.threshold(plot, pen, ratio);
    if (this.steep) {
      pen.fillStyle = colour("--soft");
      pen.font = `${12 * ratio}px system-ui, sans-serif`;
      pen.textAlign = "left";
      pen.fillText("logarithmic above the threshold", plot.bbox.left + 4 * ratio, plot.bbox.top - 2 * ratio);
    }
    pen.restore();
  }
}

const edge = (graph) => ({ stroke: "transparent", points: { show: false }, gaps: graph.gaps() });

function decades(from, to) {
  const found = [];
  const step = Math.ceil((Math.log10(to) - Math.log10(from)) / 5) || 1;
  for (let power = Math.ceil(Math.log10(from)); 10 ** power <= to; power += step) found.push(10 ** power);
  return found;
}
