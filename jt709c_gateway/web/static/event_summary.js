// One-line summaries of events, and the texts of command states.

import { dated, moment, place, span, speed, words } from "./format.js";

/** The provenance of a command unless documented; records of older gateways have only `assumed`. */
export function provenance(data) {
  const said = data?.provenance ?? (data?.assumed ? "assumed" : null);
  return said === "assumed" || said === "standard" ? said : null;
}

function formRemark(data) {
  const said = provenance(data);
  return said ? `${said} form` : null;
}

/** A time as events have it. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
/** Maximum characters of a value. */
const MAX_LENGTH = 40;

/** Kinds of events. */
export const KINDS = [
  "location",
  "lock",
  "alarm",
  "command",
  "session",
  "reply",
  "heartbeat",
  "peripheral",
  "password",
  "registration",
  "attributes",
  "time_request",
  "unknown",
];

/** Frequent kinds, shown for the whole fleet only on request. */
export const FREQUENT = ["location", "heartbeat"];

/** States of a command: whether final, the tone, and the text. */
export const STATES = {
  queued: { end: false, tone: "", text: "accepted" },
  waiting: { end: false, tone: "", text: "waits for the lock to connect, or for its conditions" },
  sent: { end: false, tone: "", text: "written to the lock" },
  acknowledged: { end: false, tone: "", text: "the lock accepted it" },
  confirmed: { end: true, tone: "good", text: "done: the lock's own report shows it" },
  done: { end: true, tone: "good", text: "the lock has answered" },
  rejected: { end: true, tone: "bad", text: "the lock or the gateway refused it" },
  failed: { end: true, tone: "bad", text: "it could not be written to the lock" },
  unconfirmed: { end: true, tone: "doubt", text: "the lock accepted it, but no report shows that it moved" },
  timed_out: { end: true, tone: "bad", text: "the lock did not answer" },
  uncertain: {
    end: true,
    tone: "doubt",
    text: "it may or may not have reached the lock; it is not written again automatically",
  },
  expired: { end: true, tone: "bad", text: "the lock did not connect, or the conditions did not hold, in time; nothing was written" },
  cancelled: { end: true, tone: "", text: "cancelled before it was written" },
  invalid: { end: true, tone: "bad", text: "it has a mistake and can't be executed" },
};

/** Whether a state is final. */
export function hasEnded(state) {
  return STATES[state]?.end ?? false;
}

/** Summarize an event. */
export function eventSummary(event) {
  const data = event.data && typeof event.data === "object" ? event.data : {};
  let parts;
  try {
    parts = (Object.hasOwn(SUMMARIES, event.kind) ? SUMMARIES[event.kind] : genericSummary)(data);
  } catch {
    // A malformed event must not stop the display of others.
    parts = genericSummary(data);
  }
  if (event.stored) parts.push("(from the lock's memory)");
  return parts.filter((part) => part !== null && part !== undefined && part !== "").join(" · ");
}

const labelled = (name, value) => (value === null || value === undefined ? null : `${name} ${value}`);
const withUnit = (value, text) => (value === null || value === undefined ? null : `${value}\u00a0${text}`);

const SUMMARIES = {
  location: (data) => [
    place(data.latitude, data.longitude),
    data.fix === "gnss" ? null : labelled("fix", data.fix),
    speed(data.speed_kmh),
    data.lock_state,
    withUnit(data.battery_percent, "%"),
    data.alarms?.length ? `alarms: ${data.alarms.map(words).join(", ")}` : null,
  ],
  lock: (data) => [
    data.action,
    data.method === "automatic" ? "by itself" : data.method ? `by ${words(data.method)}` : null,
    labelled("card", data.card),
    labelled("fence", data.fence_id),
    labelled("sub-lock", data.peripheral),
    place(data.latitude, data.longitude),
    labelled("command", data.command_id),
  ],
  alarm: (data) => [
    words(data.name),
    data.active ? "raised" : "cleared",
    labelled("sub-lock", data.peripheral),
    place(data.latitude, data.longitude),
  ],
  heartbeat: (data) => [withUnit(data.battery_percent, "%"), labelled("signal", data.gsm_signal)],
  reply: (data) => [
    [data.word, ...(data.arguments ?? [])].filter((word) => word !== null && word !== undefined).join(","),
    labelled("command", data.command_id),
  ],
  session: (data) => [
    data.state,
    data.reason,
    typeof data.duration_s === "number" ? `after ${span(data.duration_s)}` : null,
  ],
  command: (data) => [
    data.command,
    labelled("sub-lock", data.peripheral),
    words(data.state),
    data.reason,
    answerText(data.answer),
    formRemark(data),
    labelled("by", data.issued_by),
    labelled("command", data.id),
  ],
  peripheral: (data) => [
    data.peripheral,
    data.peripheral_type,
    data.lock_state,
    withUnit(data.battery_percent, "%"),
    withUnit(data.temperature_c, "°C"),
    withUnit(data.humidity_percent, "% humidity"),
  ],
  password: () => ["a dynamic password was reported"],
};

/** The content of an answer: the arguments of its sentence, or the requested data. */
export function answerText(answer) {
  if (!answer || typeof answer !== "object") return null;
  const text = Array.isArray(answer.arguments) ? answer.arguments.join(",") : "";
  const parts = [text, answer.data ? JSON.stringify(answer.data) : ""].filter(Boolean);
  return parts.length ? `answer ${parts.join(" ")}` : null;
}

function genericSummary(data) {
  return Object.entries(data)
    .filter(([, value]) => value !== null && value !== "")
    .map(
      ([name, value]) => `${words(name)} ${truncate(valueText(value))}`,
    );
}

function valueText(value) {
  if (typeof value === "object") return JSON.stringify(value);
  return TIME.test(value) ? dated(moment(value)) : String(value);
}

const truncate = (text) => (text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text);
