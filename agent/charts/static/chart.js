// A chart by uPlot in the colours of the page around it, with a readout, for finger and keyboard.

import { numberTicks, timeTicks } from "./ticks.js";

const FONT = "12px system-ui, sans-serif";

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const finger = () => matchMedia("(pointer: coarse)").matches;

// Options of uPlot for an axis; `more` goes before them.
export function axis(more = {}) {
  return { stroke: () => colour("--soft"), font: FONT, labelFont: FONT, labelSize: 18, size: 32, ticks: { stroke: () => colour("--line"), width: 1, size: 4 }, grid: { stroke: () => colour("--line"), width: 1 }, ...more };
}

// Of times, marked at round ones; `tick(time, span)` is their text.
export function timeAxis(tick, wall = false, more = {}) {
  return axis({ grid: { show: false }, ...more,
    splits: (plot, _, from, to) => {
      const found = timeTicks(from, to, Math.max(2, Math.floor(plot.over.clientWidth / 90)), wall);
      plot.root.parentElement.dataset.ticks = JSON.stringify(found);
      return found;
    },
    values: (plot, splits) => splits.map((time) => tick(time, plot.scales.x.max - plot.scales.x.min)) });
}

// Of numbers; `tick(value)` is their text.
export function numberAxis(tick, more = {}) {
  return axis({ splits: (plot, which, from, to) => numberTicks(from, to, which ? (plot.over.clientHeight < 130 ? 3 : 5) : Math.max(2, Math.floor(plot.over.clientWidth / 70))), values: (_, splits) => splits.map(tick), ...more });
}

export class Chart {
  // `options()` are uPlot's, without a size; `say(index)` is read out of a point, `summary()` of none;
  // with `zoom` a stretch is drawn up to look closer, and a double click shows all again. In a plane
  // `near(plot)` is the point under the cursor, and `height(index)` where it lies.
  constructor(node, readout, { options, say, summary, zoom = false, near = (plot) => plot.cursor.idx, height = null }) {
    Object.assign(this, { node, readout, options, say, summary, zoom, near, height, plot: null, aligned: null, cursor: null, picked: null });
    node.tabIndex = 0;
    node.replaceChildren();
    const dark = matchMedia("(prefers-color-scheme: dark)"), again = () => this.plot?.redraw(false, true);
    dark.addEventListener("change", again);
    this.watched = new ResizeObserver(() => {
      if (!node.isConnected) {
        dark.removeEventListener("change", again);
        this.end();
      } else this.fit();
    });
    this.watched.observe(node);
    node.addEventListener("keydown", (event) => this.key(event));
    node.addEventListener("blur", () => this.look(null));
    // A finger that is drawn along reads as a mouse does.
    node.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" || !this.plot) return;
      const box = this.plot.over.getBoundingClientRect();
      this.plot.setCursor({ left: event.clientX - box.left, top: event.clientY - box.top });
    });
    node.addEventListener("click", () => this.pick());
  }

  // Columns, the first is x.
  show(aligned) {
    this.aligned = aligned;
    this.node.dataset.points = String(aligned[0].length);
    if (this.plot) this.plot.setData(aligned);
    else this.fit();
    if (this.cursor === null) this.summed();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.node;
    if (!this.aligned || width < 80 || height < 40) return;
    if (this.plot) {
      this.plot.setSize({ width, height });
      return;
    }
    const options = this.options();
    const cursor = { x: true, y: false, drag: { x: this.zoom, y: false, setScale: this.zoom, dist: 8 }, points: { size: 9, width: 1.5, fill: () => "transparent", stroke: () => colour("--ink") }, ...options.cursor };
    const hooks = { ...options.hooks, setCursor: [(plot) => this.moved(plot.cursor.left < 0 ? null : this.near(plot))] };
    this.plot = new uPlot({ padding: [12, 22, 0, 0], legend: { show: false }, ...options, cursor, hooks, width, height }, this.aligned, this.node);
    this.plot.ctx.canvas.setAttribute("aria-hidden", "true"); // the node is named, and the readout says it
  }

  end() {
    this.watched.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  moved(index) {
    const [x] = this.aligned;
    this.cursor = index === undefined || index === null || index >= x.length ? null : index;
    if (this.cursor === null) this.summed();
    else this.readout.textContent = this.say(this.cursor);
  }

  summed() {
    this.readout.textContent = this.summary();
  }

  look(index) {
    if (!this.plot) return;
    const x = index === null ? null : this.aligned[0][index];
    this.plot.setCursor(x === null ? { left: -10, top: -10 } : { left: this.plot.valToPos(x, "x"), top: this.height ? this.plot.valToPos(this.height(index), "y") : this.plot.over.clientHeight / 2 });
    if (index !== null && this.cursor !== index) this.moved(index); // two points on one pixel
  }

  pick() {
    this.picked = this.cursor === null ? null : this.aligned[0][this.cursor];
  }

  key(event) {
    const count = this.plot ? this.aligned[0].length : 0;
    if (!count) return;
    const at = this.cursor === null ? count - 1 : this.cursor;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 50, PageDown: at + 50, Home: 0, End: count - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.look(Math.max(0, Math.min(count - 1, to)));
    this.pick();
  }
}
