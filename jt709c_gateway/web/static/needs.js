// Whether a lock needs somebody, and why: from what its row has, and from the interval of reports that this page has seen.

import { ago, moment, now, span, speed, words } from "./format.js";

/** km/h from which a lock counts as moving: the position of one that stands drifts more slowly. */
export const MOVING_KMH = 5;
/** Percent at and below which a battery counts as low, when the lock itself has not said so. */
export const LOW_BATTERY = 20;
/** So many of its own intervals a lock may miss before it counts as silent. */
export const MISSED_INTERVALS = 3;
/** A speed measured longer ago is shown with its age, ms. */
const OLD_MS = 600000;
/** Its own need, not that of an alarm. */
export const LOW_ALARM = "low_battery";

/** The needs as bits. Rows are sorted by their sum, so each weighs more than all after it. */
export const ALARM = 8;
export const MOVING = 4;
export const SILENT = 2;
export const BATTERY = 1;

/** Whether the battery is low, charging or not. */
export function isLow({ alarms, battery_percent: percent }) {
  return alarms.includes(LOW_ALARM) || (percent !== null && percent <= LOW_BATTERY);
}

/** The needs of a row at a time in ms; `silence` is in seconds. It runs for each row each second. */
export function needOf({ summary, seen, interval }, silence, at) {
  const { alarms } = summary;
  let need = 0;
  if (alarms.length > 1 || (alarms.length === 1 && alarms[0] !== LOW_ALARM)) need |= ALARM;
  if (summary.lock_state === "unlocked" && summary.speed_kmh >= MOVING_KMH) need |= MOVING;
  if (at - seen > 1000 * Math.max(silence, MISSED_INTERVALS * interval)) need |= SILENT;
  if (!summary.charging && isLow(summary)) need |= BATTERY;
  return need;
}

/** The needs of a row in words, the most urgent first: `[{need, text}]`, with the `name` of an alarm. */
export function reasonsOf(row, silence) {
  const { summary, seen } = row;
  const need = needOf(row, silence, now());
  const found = [];
  if (need & ALARM)
    for (const name of summary.alarms)
      if (name !== LOW_ALARM) found.push({ need: ALARM, name, text: words(name) });
  if (need & MOVING) {
    const measured = moment(summary.position_time);
    const age = measured && now() - measured > OLD_MS ? ` ${ago(measured)}` : "";
    found.push({ need: MOVING, text: `unlocked and moving, ${speed(summary.speed_kmh)}${age}` });
  }
  if (need & SILENT)
    found.push({ need: SILENT, text: seen ? `silent for ${span((now() - seen) / 1000)}` : "never seen" });
  if (need & BATTERY) {
    const percent = summary.battery_percent === null ? "" : `, ${summary.battery_percent} %`;
    found.push({ need: BATTERY, text: `low battery${percent}` });
  }
  return found;
}

/** The needs of a row as one text, or "". */
export function reasonText(row, silence) {
  return reasonsOf(row, silence)
    .map(({ text }) => text)
    .join(", ");
}

/** The order of rows by their `need`, 0 for equal ones: of silent locks the last seen first, then the emptiest battery. */
export function byNeed(one, other) {
  if (one.need !== other.need) return other.need - one.need;
  if (one.need & SILENT) return other.seen - one.seen;
  return one.need === BATTERY ? one.summary.battery_percent - other.summary.battery_percent : 0;
}
