// Where a time axis is marked: at times that a clock on the wall shows, in this browser's zone.

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const STEPS = [1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
const DAYS = [1, 2, 7, 14];
const MONTHS = [1, 2, 3, 6, 12];

// Seconds since the epoch, of at most `most` round moments from `begin` to `end`.
export function timeTicks(begin, end, most) {
  const span = end - begin, found = [];
  if (!(span > 0)) return found;
  const step = STEPS.find((one) => span / one <= most);
  if (step) {
    const zone = -60 * new Date(begin * 1000).getTimezoneOffset();
    for (let time = Math.ceil((begin + zone) / step) * step - zone; time <= end; time += step) found.push(time);
    return found;
  }
  // Days and months have no one length: they are counted by the calendar.
  const days = DAYS.find((one) => span / (one * DAY) <= most), at = new Date(begin * 1000);
  at.setHours(0, 0, 0, 0);
  const months = MONTHS.find((one) => span / (one * 30 * DAY) <= most) || 12;
  if (!days) at.setDate(1);
  while (at / 1000 <= end) {
    if (at / 1000 >= begin && (days || at.getMonth() % months === 0)) found.push(at / 1000);
    if (days) at.setDate(at.getDate() + days);
    else at.setMonth(at.getMonth() + 1);
  }
  return found;
}
