// Level meter and scrolling spectrogram of what a microphone hears.

import { colour, fit, still } from "./dom.js";

const SECONDS = 60, LEFT = 46, BOTTOM = 22, RANGE = 70;
const ANCHORS = [[4, 6, 20], [58, 20, 96], [140, 36, 102], [214, 74, 66], [246, 150, 40], [252, 244, 170]];
const PALETTE = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (ANCHORS.length - 1), low = Math.min(Math.floor(place), ANCHORS.length - 2);
  return ANCHORS[low].map((value, c) => Math.round(value + (ANCHORS[low + 1][c] - value) * (place - low)));
});

export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.columns = []; // {time, bands: Uint8Array}
    this.form = null;
    this.due = 0;
    this.image = document.createElement("canvas");
  }

  take(heard) {
    this.form = heard;
    if (heard.past) this.columns = []; // all of the last minute, what is shown already too
    for (const column of heard.columns) {
      if (!(column.time <= this.columns[this.columns.length - 1]?.time)) this.columns.push({ time: column.time, bands: Uint8Array.from(atob(column.bands), (c) => c.charCodeAt(0)) });
    }
    this.columns.splice(0, this.columns.length - Math.ceil(SECONDS / heard.seconds));
    const now = performance.now();
    if (still() && now < this.due) return;
    this.due = now + 1000;
    this.draw();
  }

  draw() {
    const { pen, width, height } = fit(this.canvas);
    pen.fillStyle = "#04060e";
    pen.fillRect(0, 0, width, height);
    if (!this.columns.length) return;
    const { bands, seconds, rate, floor_db: floor, steps_per_db: steps } = this.form;
    const count = Math.ceil(SECONDS / seconds), image = this.image;
    image.width = count;
    image.height = bands;
    let top = 0;
    for (const column of this.columns) for (const value of column.bands) if (value > top) top = value;
    const span = RANGE * steps, brush = image.getContext("2d");
    const pixels = brush.createImageData(count, bands);
    const end = this.columns[this.columns.length - 1].time;
    for (const column of this.columns) {
      const x = count - 1 - Math.round((end - column.time) / seconds);
      if (x < 0) continue;
      for (let band = 0; band < bands; band += 1) {
        const shade = Math.max(0, Math.min(255, Math.round(((column.bands[band] - top + span) / span) * 255)));
        const place = 4 * ((bands - 1 - band) * count + x), mark = PALETTE[shade];
        pixels.data[place] = mark[0];
        pixels.data[place + 1] = mark[1];
        pixels.data[place + 2] = mark[2];
        pixels.data[place + 3] = 255;
      }
    }
    brush.putImageData(pixels, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(image, LEFT, 0, width - LEFT, height - BOTTOM);
    pen.fillStyle = "#dfe7ea";
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const kilohertz = rate / 2000, step = [0.25, 0.5, 1, 2, 4, 8].find((one) => kilohertz / one <= 6) || 16;
    for (let value = 0; value <= kilohertz + 1e-9; value += step) {
      const y = (height - BOTTOM) * (1 - value / kilohertz);
      pen.fillText(value === 0 ? "0" : `${value} kHz`, LEFT - 5, Math.max(8, Math.min(height - BOTTOM - 2, y)));
    }
    pen.textAlign = "center";
    for (let ago = 0; ago <= SECONDS; ago += 15) {
      const x = width - ((width - LEFT) * ago) / SECONDS;
      pen.textAlign = ago === 0 ? "right" : ago === SECONDS ? "left" : "center";
      pen.fillText(ago === 0 ? "now" : `-${ago} s`, x, height - BOTTOM / 2);
    }
    this.canvas.dataset.columns = String(this.columns.length);
    this.canvas.dataset.top = String(floor + top / steps);
  }
}

const FLOOR = -90;

export class Meter {
  constructor(canvas, figure) {
    this.canvas = canvas;
    this.figure = figure;
    this.held = FLOOR;
    this.told = 0;
  }

  take(heard) {
    const rms = Math.max(...heard.columns.map((column) => column.rms));
    const peak = Math.max(...heard.columns.map((column) => column.peak));
    this.held = Math.max(peak, this.held - heard.columns.length * heard.seconds * 10);
    this.draw(rms);
    const now = performance.now();
    if (now - this.told > 900) {
      this.told = now;
      this.figure.textContent = `${rms.toFixed(0)} dBFS RMS, peak ${peak.toFixed(0)} dBFS${peak > -0.5 ? " – clipping" : ""}`;
      this.canvas.setAttribute("aria-valuenow", rms.toFixed(0));
      this.canvas.setAttribute("aria-valuetext", this.figure.textContent);
    }
  }

  draw(rms) {
    const { pen, width, height } = fit(this.canvas);
    const place = (db) => ((Math.max(FLOOR, Math.min(0, db)) - FLOOR) / -FLOOR) * width;
    const bar = height - 20;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = colour("--quiet-bg");
    pen.fillRect(0, 0, width, bar);
    for (const [from, to, name] of [[FLOOR, -12, "--good"], [-12, -1, "--alert"], [-1, 0.01, "--alarm"]]) {
      if (rms <= from) break;
      pen.fillStyle = colour(name);
      pen.fillRect(place(from), 0, place(Math.min(rms, to)) - place(from), bar);
    }
    pen.fillStyle = colour("--ink");
    pen.fillRect(Math.min(width - 3, place(this.held)), 0, 3, bar);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = colour("--soft");
    pen.textBaseline = "bottom";
    for (let db = FLOOR; db <= 0; db += width < 420 ? 30 : 15) {
      pen.textAlign = db === FLOOR ? "left" : db === 0 ? "right" : "center";
      pen.fillText(String(db), place(db), height);
    }
  }
}
