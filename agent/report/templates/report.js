// Draws the charts of a report from the data beside them, and finds rows of long tables.

import { axis, Chart, colour, finger, numberAxis, timeAxis } from "./chart.js";

const value = (number) => (number === null ? "–" : String(Number(number.toPrecision(4))));
const format = (options) => new Intl.DateTimeFormat(undefined, { hourCycle: "h23", timeZone: "UTC", ...options });
const [full, day, minute, second] = [{ dateStyle: "medium", timeStyle: "short" }, { month: "short", day: "numeric" }, { hour: "2-digit", minute: "2-digit" }, { hour: "2-digit", minute: "2-digit", second: "2-digit" }].map(format);
const tick = (time, span) => (span > 2 * 86400 ? day : span < 600 ? second : minute).format(new Date(time * 1000));
const hertz = (one) => (one >= 1000 ? `${value(one / 1000)} kHz` : `${Math.round(one)} Hz`);
const how = () => (finger() ? "Touch it to read." : "Point at it, or use the arrow keys, to read; draw along it to look closer, double-click to see all.");
const tone = (name) => () => colour(`--${name === "limit" ? "alarm" : name}`);

function lines(spec) {
  const { x, series, level, marks, names, wall } = spec, below = level ? [{ name: level[1], tone: "limit", values: x.map(() => level[0]), limit: true }] : [];
  const drawn = [...series, ...below], known = drawn.flatMap((one) => one.values).filter((one) => one !== null);
  const from = Math.min(...known), to = Math.max(...known), room = 0.08 * (to - from) || 1;
  const pad = x.length > 1 ? 0.02 * (x[x.length - 1] - x[0]) : 1, whole = x.every(Number.isInteger); // epochs and recordings have no halves
  return {
    aligned: [x, ...drawn.map((one) => one.values)],
    say: (i) => [names[i], wall ? full.format(new Date(x[i] * 1000)) : names[i] ? "" : `${spec.x_words} ${value(x[i])}`, ...drawn.filter((one) => one.values[i] !== null).map((one) => `${one.name} ${value(one.values[i])}`)].filter(Boolean).join(" · "),
    summary: () => `${x.length} ${x.length === 1 ? "point" : "points"} of ${spec.y_words}. ${how()}`,
    legend: drawn.map((one) => [one.tone, one.limit || one.dashed ? `dashed: ${one.name}` : one.name]),
    options: () => ({
      scales: { x: { time: false, range: (_, low, high) => (low === x[0] && high === x[x.length - 1] ? [low - pad, high + pad] : [low, high]) }, y: { range: () => [from - room, to + room] } },
      series: [{}, ...drawn.map((one) => ({ stroke: tone(one.tone), width: one.dots || one.limit ? 0 : 1.6, dash: one.dashed ? [7, 4] : undefined, spanGaps: true,
        points: { show: Boolean(one.dots), size: 7, fill: tone(one.tone), stroke: tone(one.tone) }, paths: one.dots || one.limit ? () => null : undefined }))],
      axes: [wall ? timeAxis(tick, true, { label: spec.x_words }) : numberAxis((one) => (whole && !Number.isInteger(one) ? "" : value(one)), { label: spec.x_words }), numberAxis(value, { label: spec.y_words, size: 54 })],
      hooks: { draw: [(plot) => level && across(plot, level[0]), (plot) => marks.forEach(([at, words], i) => upright(plot, at, words, "--ink", i))] },
    }),
  };
}

// Points of a plane: the nearest to pointer or finger is read, whatever its group.
function scatter(spec, node) {
  const { x, series, names } = spec, group = x.map((_, i) => series.findIndex((one) => one.values[i] !== null)), y = x.map((_, i) => series[group[i]].values[i]);
  const [left, right, low, high] = [x[0], x[x.length - 1], Math.min(...y), Math.max(...y)];
  const all = (from, to) => { const pad = 0.04 * (to - from) || 1; return (_, a, b) => (a === from && b === to ? [from - pad, to + pad] : [a, b]); };
  const near = (plot) => {
    const { left: at, top: under } = plot.cursor;
    let best = null, least = Infinity;
    x.forEach((one, i) => {
      const far = Math.hypot(plot.valToPos(one, "x") - at, plot.valToPos(y[i], "y") - under);
      if (far < least) [best, least] = [i, far];
    });
    return best;
  };
  const dots = { plain: 5, healthy: 7, other: 7, faulty: 8 };
  return {
    aligned: [x, ...series.map((one) => one.values)],
    near, height: (i) => y[i],
    say: (i) => `${names[i]} · ${series[group[i]].name.replace(/ \(.*/, "")}`,
    summary: () => `${x.length} points; what lies together sounds alike. ${how()}`,
    legend: series.map((one) => [one.tone, one.name]),
    options: () => ({
      cursor: { drag: { x: true, y: true, uni: 30, setScale: true, dist: 8 }, dataIdx: (plot, n) => { const at = near(plot); return n === 0 || group[at] === n - 1 ? at : null; } },
      scales: { x: { time: false, range: all(left, right) }, y: { range: all(low, high) } },
      series: [{}, ...series.map((one) => ({ stroke: tone(one.tone), width: 0, paths: () => null, points: { show: true, size: dots[one.tone], width: 1, fill: tone(one.tone), stroke: tone(one.tone) } }))],
      axes: [numberAxis(() => "", { label: spec.x_words, size: 8 }), numberAxis(() => "", { label: spec.y_words, size: 8 })],
    }),
  };
}

function bars(spec) {
  const { edges, groups, level } = spec, wide = edges[1] - edges[0], x = edges.slice(0, -1).map((edge) => edge + wide / 2);
  const every = groups.flatMap((one) => one.counts), to = Math.max(...every, 1), from = Math.min(...every, 0);
  return {
    aligned: [x, ...groups.map((one) => one.counts)],
    say: (i) => [`score ${value(edges[i])} to ${value(edges[i + 1])}`, ...groups.map((one) => `${one.name.replace(/ \(.*/, "")}: ${Math.abs(one.counts[i])}`)].join(" · "),
    summary: () => `Threshold ${value(level[0])}. ${how()}`,
    legend: [...groups.map((one) => [one.tone, one.name]), ["limit", `upright: ${level[1]} ${value(level[0])}`]],
    options: () => ({
      scales: { x: { time: false, range: (_, low, high) => (low === x[0] && high === x[x.length - 1] ? [edges[0], edges[edges.length - 1]] : [low, high]) }, y: { range: () => [from * 1.08, to * 1.08] } },
      series: [{}, ...groups.map((one) => ({ stroke: tone(one.tone), fill: tone(one.tone), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.94, Infinity] }) }))],
      axes: [numberAxis(value, { label: spec.x_words, grid: { show: false } }), numberAxis((count) => (Number.isInteger(count) ? String(Math.abs(count)) : ""), { label: spec.y_words, size: 54 })],
      hooks: { draw: [(plot) => upright(plot, level[0], "", "--alarm", 0, [7, 4])] },
    }),
  };
}

// Cells of bands over recordings: louder than usual in one colour, quieter in the other.
function heat(spec, node) {
  const { names, edges, values, limit } = spec, x = names.map((_, i) => i + 1), logs = edges.map(Math.log2);
  const said = (i, band) => `${hertz(edges[band])} to ${hertz(edges[band + 1])} ${values[i][band] > 0 ? "+" : ""}${value(values[i][band])} dB`;
  const band = (i) => {
    const plot = node.drawn.plot, at = plot && node.matches(":hover") ? plot.posToVal(plot.cursor.top, "y") : null;
    const under = at === null ? -1 : logs.findIndex((log, b) => b < values[i].length && at >= log && at < logs[b + 1]);
    return under >= 0 ? under : values[i].reduce((best, one, b) => (Math.abs(one) > Math.abs(values[i][best]) ? b : best), 0);
  };
  return {
    aligned: [x, x.map(() => null)],
    say: (i) => `${names[i]} · ${said(i, band(i))}`,
    summary: () => `${names.length} columns, dB against the usual of each band. ${how()}`,
    legend: [["faulty", "louder than usual"], ["healthy", "quieter than usual"], ["", `full colour: ${limit} dB and more`]],
    options: () => ({
      scales: { x: { time: false, range: (_, low, high) => (low === null || (low === x[0] && high === x[x.length - 1]) ? [0.5, x.length + 0.5] : [low, high]) }, y: { range: () => [logs[0], logs[logs.length - 1]] } },
      series: [{}, { points: { show: false } }],
      axes: [numberAxis((one) => (Number.isInteger(one) ? String(one) : ""), { label: spec.x_words, grid: { show: false } }),
        axis({ size: 64, grid: { show: false }, splits: () => [63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000].map(Math.log2).filter((log) => log >= logs[0] && log <= logs[logs.length - 1]), values: (_, splits) => splits.map((log) => hertz(2 ** log)) })],
      hooks: { drawAxes: [(plot) => cells(plot, x, logs, values, limit)] },
    }),
  };
}

function cells(plot, x, logs, values, limit) {
  const pen = plot.ctx, louder = colour("--faulty"), quieter = colour("--healthy"), { left, top, width, height } = plot.bbox;
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  values.forEach((column, i) => {
    const from = plot.valToPos(x[i] - 0.5, "x", true), wide = plot.valToPos(x[i] + 0.5, "x", true) - from;
    column.forEach((one, band) => {
      const low = plot.valToPos(logs[band], "y", true), high = plot.valToPos(logs[band + 1], "y", true);
      pen.fillStyle = one > 0 ? louder : quieter;
      pen.globalAlpha = Math.min(1, Math.abs(one) / limit);
      pen.fillRect(Math.floor(from), Math.floor(high), Math.ceil(wide) + (wide < 6 ? 1 : 0), Math.ceil(low - high));
    });
  });
  pen.restore();
}

// A threshold, from end to end.
function across(plot, value) {
  const pen = plot.ctx, ratio = devicePixelRatio || 1, y = plot.valToPos(value, "y", true), { left, top, width, height } = plot.bbox;
  if (y < top || y > top + height) return;
  pen.save();
  pen.strokeStyle = colour("--alarm");
  pen.lineWidth = 1.6 * ratio;
  pen.setLineDash([7 * ratio, 4 * ratio]);
  pen.beginPath();
  pen.moveTo(left, y);
  pen.lineTo(left + width, y);
  pen.stroke();
  pen.restore();
}

function upright(plot, at, words, name, place, dash = []) {
  const pen = plot.ctx, ratio = devicePixelRatio || 1, x = plot.valToPos(at, "x", true), { left, top, width, height } = plot.bbox;
  if (x < left || x > left + width) return;
  pen.save();
  pen.strokeStyle = pen.fillStyle = colour(name);
  pen.lineWidth = 1.6 * ratio;
  pen.setLineDash(dash.map((one) => one * ratio));
  pen.beginPath();
  pen.moveTo(x, top);
  pen.lineTo(x, top + height);
  pen.stroke();
  const end = x > left + 0.75 * width;
  pen.font = `${12 * ratio}px system-ui, sans-serif`;
  pen.textAlign = end ? "right" : "left";
  const from = x + (end ? -4 : 4) * ratio, line = top + (14 + 17 * (place % 3)) * ratio, wide = pen.measureText(words).width;
  if (words) { // on a plate: dots may lie there
    pen.fillStyle = colour("--card");
    pen.fillRect(from - (end ? wide + 2 * ratio : 2 * ratio), line - 12 * ratio, wide + 4 * ratio, 16 * ratio);
    pen.fillStyle = colour(name);
  }
  pen.fillText(words, from, line);
  pen.restore();
}

// A dot's recording, where it is on this page to listen to.
function lead(name) {
  const card = [...document.querySelectorAll("[data-recording]")].find((one) => one.dataset.recording === name);
  if (!card) return;
  card.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  card.focus({ preventScroll: true });
}

for (const figure of document.querySelectorAll("figure.drawn")) {
  const spec = JSON.parse(figure.querySelector("script").textContent), node = figure.querySelector(".chart");
  const { aligned, legend, ...made } = { lines, bars, heat, scatter }[spec.kind](spec, node);
  node.drawn = new Chart(node, figure.querySelector("output"), { ...made, zoom: true });
  node.drawn.show(aligned);
  const go = () => node.drawn.cursor !== null && spec.names?.[node.drawn.cursor] && lead(spec.names[node.drawn.cursor]);
  node.addEventListener("click", go);
  node.addEventListener("keydown", (event) => event.key === "Enter" && go());
  figure.querySelector(".legend").append(...legend.map(([name, words]) => {
    const item = document.createElement("li"), swatch = document.createElement("i");
    if (name) {
      swatch.style.background = `var(--${name === "limit" ? "alarm" : name})`;
      item.append(swatch);
    }
    item.append(words);
    return item;
  }));
}

for (const label of document.querySelectorAll("label.find")) {
  const rows = [...label.parentElement.nextElementSibling.querySelectorAll("tr")].slice(1), status = label.nextElementSibling;
  label.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    status.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
}
