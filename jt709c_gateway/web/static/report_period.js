// The choice of a report: a lock or a group, and a period in the time zone of this computer.

import { now } from "./format.js";

/** Periods by their names; `custom` has its beginning and end in the address. */
export const PERIODS = {
  today: "Today",
  yesterday: "Yesterday",
  week: "Last 7 days",
  custom: "From … to …",
};
/** Lengths in seconds from which a span without a record is listed. */
export const GAPS = [900, 3600, 6 * 3600, 86400];
const LOCAL_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d$/;

/** The choice in the query of an address; what is invalid is ignored. */
export function fromQuery(query) {
  const text = (name) => (query.get(name) ?? "").trim();
  const time = (name) => (LOCAL_TIME.test(text(name)) ? text(name) : "");
  const gap = Number(text("gap"));
  const custom = time("from") && time("to");
  return {
    device: text("device"),
    group: text("device") ? "" : text("group"),
    period: custom ? "custom" : Object.hasOwn(PERIODS, text("period")) ? text("period") : "today",
    from: custom ? time("from") : "",
    to: custom ? time("to") : "",
    gap: GAPS.includes(gap) ? gap : 3600,
  };
}

/** The query for a choice. */
export function toQuery({ device, group, period, from, to, gap }) {
  const about = device ? { device } : { group };
  const when = period === "custom" ? { from, to } : { period };
  const pairs = Object.entries({ ...about, ...when, gap: gap === 3600 ? "" : gap });
  return new URLSearchParams(pairs.filter(([, value]) => value));
}

/** Beginning and end of a choice in ms since 1970; null for a period that is none. */
export function span({ period, from, to }) {
  const midnight = new Date(now());
  midnight.setHours(0, 0, 0, 0);
  const day = (offset) => {
    const date = new Date(midnight);
    date.setDate(date.getDate() + offset);
    return date.getTime();
  };
  if (period === "today") return [day(0), day(1)];
  if (period === "yesterday") return [day(-1), day(0)];
  if (period === "week") return [day(-6), day(1)];
  const [begin, end] = [new Date(from).getTime(), new Date(to).getTime()];
  return begin < end ? [begin, end] : null;
}

/** A time as the field of a date and a time has it. */
export function fieldTime(ms) {
  const date = new Date(ms);
  date.setMinutes(date.getMinutes() - date.getTimezoneOffset());
  return date.toISOString().slice(0, 16);
}
