// A stored spectrogram with axes of this page's own: its letters, its time zone, its dark mode.

import { colour, el, fit, words } from "./dom.js";
import { timeTicks } from "./charts/ticks.js";

// Where the plot lies in the device's picture (agent/evidence/spectrogram.py), and its colours' range.
const PLOT = { x: 56, y: 30, width: 900, height: 320 }, RANGE_DB = 80;
const LEFT = 50, RIGHT = 12, TOP = 10, BOTTOM = 30;

export class Picture {
  // `about`: {src, alt, seconds, rate, start?: seconds since the epoch, mark?: seconds}.
  constructor(about) {
    this.about = about;
    this.canvas = el("canvas", { class: "plot", role: "img", "aria-label": about.alt });
    this.note = el("p", { class: "dim" });
    this.node = el("div", { class: "picture" }, this.canvas, this.note);
    this.image = new Image();
    this.image.addEventListener("load", () => this.draw());
    this.image.addEventListener("error", () => {
      this.canvas.hidden = true;
      this.note.textContent = "Its picture is not kept here.";
    });
    const seen = new IntersectionObserver((entries) => {
      if (!entries.some((one) => one.isIntersecting)) return;
      seen.disconnect();
      this.image.src = about.src;
    });
    seen.observe(this.canvas);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  draw() {
    if (!this.image.naturalWidth) return;
    const { pen, width, height } = fit(this.canvas), { seconds, rate, start, mark } = this.about;
    const right = width - RIGHT, bottom = height - BOTTOM;
    pen.clearRect(0, 0, width, height);
    pen.drawImage(this.image, PLOT.x, PLOT.y, PLOT.width, PLOT.height, LEFT, TOP, right - LEFT, bottom - TOP);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = colour("--soft");
    pen.strokeStyle = colour("--line");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const kilohertz = rate / 2000, step = [0.25, 0.5, 1, 2, 4, 8].find((one) => kilohertz / one <= 6) || 16;
    for (let value = 0; value <= kilohertz + 1e-9; value += step) {
      const y = bottom - (value / kilohertz) * (bottom - TOP);
      pen.fillText(value ? `${value} kHz` : "0", LEFT - 5, Math.max(TOP + 4, y));
    }
    const x = (at) => LEFT + (at / seconds) * (right - LEFT), begin = start ?? 0;
    const zone = start === undefined ? 60 * new Date(0).getTimezoneOffset() : 0;
    pen.textAlign = "center";
    for (const time of timeTicks(begin + zone, begin + zone + seconds, Math.max(2, Math.floor((right - LEFT) / 80)))) {
      const at = x(time - zone - begin), said = start === undefined ? `${Math.round(time - zone)} s` : words.tick(time, 60), half = pen.measureText(said).width / 2;
      if (at + half <= width) pen.fillText(said, Math.max(half, at), bottom + 18);
      pen.beginPath();
      pen.moveTo(at, bottom);
      pen.lineTo(at, bottom + 5);
      pen.stroke();
    }
    pen.strokeRect(LEFT - 0.5, TOP - 0.5, right - LEFT + 1, bottom - TOP + 1);
    this.canvas.dataset.drawn = mark === undefined ? "plain" : String(Math.round(x(mark)));
  }
}

export const LEGEND = `bright is loud, dark ${RANGE_DB} dB below the loudest`;
