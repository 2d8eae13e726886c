// The trend of a day in a small picture: a line, the threshold, and where an alarm stood.

import { colour, fit, number } from "./dom.js";

const PAD = 3;

export class Sparkline {
  constructor(canvas) {
    this.canvas = canvas;
    this.day = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(day) {
    this.day = day;
    const heard = day.most.filter((value) => value !== null);
    const words = heard.length ? `highest score ${number(Math.max(...heard))}, where 1 is the threshold` : "nothing judged";
    this.canvas.setAttribute("aria-label", `The last day: ${words}${day.level.includes(2) ? "; an alarm stood" : ""}`);
    this.draw();
  }

  // A score that was just told: the last point grows with it.
  add(score, level) {
    if (!this.day || score === null) return;
    const { most, level: levels, begin, step } = this.day, at = Math.floor((Date.now() / 1000 - begin) / step);
    if (at < 0 || at > most.length + 96) return;
    while (most.length <= at) {
      most.push(null);
      levels.push(0);
      if (most.length > 96) {
        most.shift();
        levels.shift();
        this.day.begin += step;
        return this.add(score, level);
      }
    }
    const rank = { normal: 0, alert: 1, alarm: 2 }[level] || 0;
    if (most[at] !== null && score <= most[at] && rank <= levels[at]) return;
    most[at] = Math.max(most[at] ?? score, score);
    levels[at] = Math.max(levels[at], rank);
    this.draw();
  }

  draw() {
    const { pen, width, height } = fit(this.canvas);
    pen.clearRect(0, 0, width, height);
    const count = 96, bottom = height - 7;
    if (!this.day || width < 20) return;
    const { most, level } = this.day, shift = count - most.length;
    const heard = most.filter((value) => value !== null), top = Math.max(1.4, ...heard.map((value) => Math.min(value, 6)));
    const x = (i) => PAD + ((i + shift + 0.5) / count) * (width - 2 * PAD);
    const y = (value) => bottom - PAD - (Math.max(0, Math.min(value, top)) / top) * (bottom - 3 * PAD);
    pen.strokeStyle = colour("--alarm");
    pen.lineWidth = 1;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(PAD, y(1));
    pen.lineTo(width - PAD, y(1));
    pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = colour("--line");
    pen.fillRect(PAD, bottom + 2, width - 2 * PAD, 1);
    level.forEach((rank, i) => {
      if (!rank) return;
      pen.fillStyle = colour(rank === 2 ? "--alarm" : "--alert");
      pen.fillRect(x(i - 0.5), bottom, Math.max(2, width / count), rank === 2 ? 6 : 3);
    });
    pen.strokeStyle = pen.fillStyle = colour("--accent");
    pen.lineWidth = 1.6;
    pen.beginPath();
    let joined = false;
    most.forEach((value, i) => {
      if (value === null) {
        joined = false;
        return;
      }
      if (joined) pen.lineTo(x(i), y(value));
      else {
        pen.moveTo(x(i), y(value));
        if (most[i + 1] === null || i + 1 === most.length) pen.fillRect(x(i) - 1.5, y(value) - 1.5, 3, 3);
      }
      joined = true;
    });
    pen.stroke();
    this.canvas.dataset.points = String(heard.length);
  }
}
