// Values as text for people. Ages are computed with the gateway's clock, since this computer's may be wrong; times are
// shown in this computer's time zone, always with its offset from UTC.

import { h } from "./dom.js";

let ahead = 0;

/** Set the gateway's clock from its time, RFC 3339. */
export function setServerTime(iso) {
  const then = Date.parse(iso);
  if (!Number.isNaN(then)) ahead = then - Date.now();
}

/** The time of the gateway's clock in ms since 1970. */
export function now() {
  return Date.now() + ahead;
}

const UNITS = [
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** A duration in seconds, in its largest unit: "3 min". */
export function span(seconds) {
  const [size, unit] = UNITS.find(([one]) => seconds >= one) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** The age of a time in ms since 1970: "3 min ago". */
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

const two = (number) => String(number).padStart(2, "0");

const dateOf = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

const clockOf = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;

const isToday = (date) => date.toDateString() === new Date(now()).toDateString();

/** The offset of this computer's time zone: "UTC", "UTC+2", "UTC−3:30". It changes with daylight saving. */
export function zone(ms) {
  const minutes = -new Date(ms).getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? "−" : "+"}${hours}${rest ? `:${two(rest)}` : ""}`;
}

/** A time with its date and zone: "2026-11-22 11:15:00 UTC+1". */
export function dated(ms) {
  if (!ms) return "—";
  const date = new Date(ms);
  return `${dateOf(date)} ${clockOf(date)} ${zone(ms)}`;
}

/** A time with its zone; without its date if it is of today. */
export function stamp(ms) {
  if (!ms) return "—";
  const date = new Date(ms);
  return isToday(date) ? `${clockOf(date)} ${zone(ms)}` : dated(ms);
}

/** A time with date and zone, also in UTC: the text on hover. */
export function exact(ms) {
  if (!ms) return "";
  const utc = `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  return zone(ms) === "UTC" ? utc : `${dated(ms)}, ${utc}`;
}

/** A <time> element with the exact time on hover; `format` returns its text. */
export function timeElement(value, format = null) {
  const ms = moment(value);
  if (!ms) return h("span", {}, "—");
  const text = (format ?? stamp)(ms);
  const offset = format ? null : zone(ms);
  const parts = offset ? [`${text.slice(0, -offset.length)}`, h("span", { class: "zone" }, offset)] : text;
  return h("time", { datetime: new Date(ms).toISOString(), title: exact(ms) }, parts);
}

/** A name of the API in words: `low_battery` is "low battery". */
export function words(name) {
  return String(name).replaceAll("_", " ");
}

/** A value, or a dash for what is unknown. */
export function known(value, unit = "") {
  return value === null || value === undefined || value === "" ? "—" : `${value}${unit}`;
}

/** A position in degrees, as other maps take it: "51.90000, -4.40000". */
export function place(latitude, longitude) {
  if (typeof latitude !== "number" || typeof longitude !== "number") return null;
  return `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
}

/** A speed, or null for what is unknown. */
export function speed(kmh) {
  return typeof kmh === "number" ? `${Math.round(kmh * 10) / 10} km/h` : null;
}

/** A number with thousands separators. */
export function count(number) {
  return number.toLocaleString("en-GB");
}
