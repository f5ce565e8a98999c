// Values as a person reads them. Times are counted by the gateway's clock: this computer's may be wrong.

import { h } from "./dom.js";

let ahead = 0;

/** Take over the gateway's clock: what it said the time is, RFC 3339. */
export function setServerTime(iso) {
  const then = Date.parse(iso);
  if (!Number.isNaN(then)) ahead = then - Date.now();
}

/** Now by the gateway's clock, in ms since 1970. */
export function now() {
  return Date.now() + ahead;
}

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A span of seconds, in its largest unit: "3 min". */
export function span(seconds) {
  const [size, unit] = UNITS.find(([one]) => seconds >= one) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** How long ago a moment was, given in ms since 1970. */
export function ago(moment) {
  if (!moment) return "never";
  const seconds = (now() - moment) / 1000;
  return seconds < 1 ? "just now" : `${span(seconds)} ago`;
}

/** Milliseconds since 1970 of an RFC 3339 text or of epoch seconds, or null. */
export function moment(value) {
  if (typeof value === "number") return value * 1000;
  const found = value ? Date.parse(value) : NaN;
  return Number.isNaN(found) ? null : found;
}

/** A time to the second, in UTC, and here where that is another. */
export function exact(ms) {
  if (!ms) return "";
  const date = new Date(ms);
  const here = date.getTimezoneOffset() === 0 ? "" : ` (${date.toLocaleString()} here)`;
  return `${date.toISOString().slice(0, 19).replace("T", " ")} UTC${here}`;
}

const two = (number) => String(number).padStart(2, "0");

/** A time of today as hours, minutes and seconds; of another day with its date. Local time. */
export function stamp(ms) {
  if (!ms) return "—";
  const date = new Date(ms);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  if (date.toDateString() === new Date(now()).toDateString()) return time;
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

/** A <time> element with the exact time on hover. */
export function timeElement(value, form = stamp) {
  const ms = moment(value);
  return ms
    ? h("time", { datetime: new Date(ms).toISOString(), title: exact(ms) }, form(ms))
    : h("span", {}, "—");
}

/** A name of the contract in words: `low_battery` is "low battery". */
export function words(name) {
  return String(name).replaceAll("_", " ");
}

/** A value, or a dash for what is unknown. */
export function known(value, unit = "") {
  return value === null || value === undefined || value === "" ? "—" : `${value}${unit}`;
}

/** A place in degrees with its half of the globe. */
export function place(latitude, longitude) {
  if (typeof latitude !== "number" || typeof longitude !== "number") return null;
  const half = (value, positive, negative) =>
    `${Math.abs(value).toFixed(5)}° ${value < 0 ? negative : positive}`;
  return `${half(latitude, "N", "S")}, ${half(longitude, "E", "W")}`;
}

/** A speed, or null for what is unknown. */
export function speed(kmh) {
  return typeof kmh === "number" ? `${Math.round(kmh * 10) / 10} km/h` : null;
}

/** A number with its thousands set apart. */
export function count(number) {
  return number.toLocaleString("en-GB");
}
