// Where an axis is marked: at times that a clock on the wall shows, and at round numbers.

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const STEPS = [1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
const DAYS = [1, 2, 7, 14];
const MONTHS = [1, 2, 3, 6, 12];

// Seconds since the epoch, of at most `most` round moments from `begin` to `end`, in this browser's
// zone; with `wall` the numbers are a clock's own, of no zone.
export function timeTicks(begin, end, most, wall = false) {
  const span = end - begin, found = [];
  if (!(span > 0)) return found;
  const step = STEPS.find((one) => span / one <= most);
  if (step) {
    const zone = wall ? 0 : -60 * new Date(begin * 1000).getTimezoneOffset();
    for (let time = Math.ceil((begin + zone) / step) * step - zone; time <= end; time += step) found.push(time);
    return found;
  }
  // Days and months have no one length: they are counted by the calendar.
  const days = DAYS.find((one) => span / (one * DAY) <= most), at = new Date(begin * 1000);
  const months = MONTHS.find((one) => span / (one * 30 * DAY) <= most) || 12, of = wall ? "UTC" : "";
  at[`set${of}Hours`](0, 0, 0, 0);
  if (!days) at[`set${of}Date`](1);
  while (at / 1000 <= end) {
    if (at / 1000 >= begin && (days || at[`get${of}Month`]() % months === 0)) found.push(at / 1000);
    if (days) at[`set${of}Date`](at[`get${of}Date`]() + days);
    else at[`set${of}Month`](at[`get${of}Month`]() + 1);
  }
  return found;
}

// Round numbers from `from` to `to`, about `most` of them.
export function numberTicks(from, to, most) {
  const raw = (to - from) / most || 1, unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((one) => one >= raw);
  const found = [];
  for (let value = Math.ceil(from / step) * step; value <= to; value += step) found.push(Number(value.toPrecision(10)));
  return found;
}
