// The timeline of a lock: its events, alarms, and commands with their states.

import { h, setChildren } from "./dom.js";
import { exact, moment, span, timeElement, words } from "./format.js";
import { STATES, eventSummary, hasEnded, provenance, answerText } from "./event_summary.js";
import { PagedHistory } from "./paged_history.js";
import { positionOf, withoutPosition } from "./position.js";

const PAGE = 50;
const FORM_TITLES = {
  assumed: "no public document has the form of this command",
  standard: "the form is that of the standard JT/T 808; no unit of this maker is known to obey it",
};
/** Maximum entries shown. */
const MAX_SHOWN = 1000;
/** Minimum delay in seconds between an event and its arrival that is shown. */
const LATE_S = 60;

/** The timeline of a device; `cancelling` makes the buttons that cancel its commands. `load()` (re)loads it, `add(event)` adds a live event on top. */
export class Timeline {
  #entries = [];
  #known = new Set();

  constructor(device, cancelling) {
    this.cancelling = cancelling;
    this.list = h("ol", { class: "timeline" });
    this.note = h("p", { class: "empty" }, "Loading…");
    this.pages = new PagedHistory({
      path: () => `devices/${encodeURIComponent(device)}/history`,
      params: () => ({ limit: PAGE }),
      wanted: PAGE,
      take: (page, begins) => this.#take(page, begins),
      changed: () => this.#draw(),
    });
    this.element = h("div", {}, this.list, this.note, this.pages.element);
  }

  /** Load the newest entries; live ones that arrived meanwhile stay. */
  load() {
    return this.pages.newest();
  }

  /** Release all resources. */
  close() {
    this.pages.stop();
  }

  #take({ entries }, begins) {
    // Without an overlap, entries are missing in between: restart the list.
    const joins = begins && this.pages.loaded && entries.some(({ event }) => this.#known.has(event.id));
    if (begins && this.pages.loaded && !joins) this.#forget();
    for (const { event } of entries) this.#insert(event);
    return joins ? null : entries.length;
  }

  #forget() {
    this.pages.full = "";
    this.#entries = [];
    this.#known.clear();
  }

  /** Process a live event of this device. */
  add(event) {
    if (!["lock", "alarm", "command"].includes(event.kind)) return;
    this.#insert(event);
    this.#draw();
  }

  #insert(event) {
    if (this.#known.has(event.id)) return;
    this.#known.add(event.id);
    this.#entries.push({ event, at: moment(event.received_at) ?? 0 });
    // Newest first; for equal times, the higher id.
    this.#entries.sort((a, b) => b.at - a.at || (b.event.id > a.event.id ? 1 : -1));
    if (this.#entries.length >= MAX_SHOWN) this.pages.full = `The last ${MAX_SHOWN} are shown.`;
    while (this.#entries.length > MAX_SHOWN) this.#known.delete(this.#entries.pop().event.id);
  }

  #draw() {
    setChildren(this.list, entries(this.#entries, this.cancelling));
    const { problem, ended } = this.pages;
    this.note.hidden = !problem && this.#entries.length > 0;
    const nothing = ended ? "No lock events, alarms or commands of this lock are kept." : "Loading…";
    this.note.textContent = problem || nothing;
  }
}

/** Items for entries, newest first: a command is one item at the position of its last step. */
function entries(list, cancelling) {
  const commands = new Map();
  for (const { event, at } of list) {
    if (event.kind !== "command" || !event.data?.id) continue;
    const steps = commands.get(event.data.id) ?? [];
    steps.unshift({ data: event.data, at });
    commands.set(event.data.id, steps);
  }
  const items = [];
  for (const { event } of list) {
    const steps = event.kind === "command" && commands.get(event.data?.id);
    if (!steps) items.push(item(event));
    else if (!steps.listed) {
      steps.listed = true;
      items.push(commandItem(event, steps, cancelling));
    }
  }
  return items;
}

function item(event) {
  const name = event.kind === "alarm" ? (event.data?.active ? "alarm" : "cleared") : event.kind;
  return h(
    "li",
    { class: `entry entry-${name}` },
    timeElement(event.received_at),
    h("span", { class: `kind kind-${event.kind}` }, event.kind),
    h(
      "span",
      { class: "event-summary" },
      eventSummary(withoutPosition(event)),
      clockNote(event),
      positionOf(event),
    ),
  );
}

function clockNote(event) {
  const [own, came] = [moment(event.data?.time), moment(event.received_at)];
  if (!own || !came || Math.abs(came - own) < LATE_S * 1000) return null;
  return h(
    "small",
    { title: exact(own) },
    ` by its own clock ${span(Math.abs(came - own) / 1000)} ${own < came ? "earlier" : "later"}`,
  );
}

function commandItem(event, steps, cancelling) {
  const { data } = event;
  const first = steps[0];
  return h(
    "li",
    { class: "entry entry-command" },
    timeElement(event.received_at),
    h("span", { class: "kind kind-command" }, "command"),
    h(
      "div",
      { class: "event-summary" },
      h(
        "a",
        { href: `#/commands/${encodeURIComponent(data.id)}` },
        h("strong", {}, words(data.command ?? "a command that can't be read")),
      ),
      " ",
      stateChip(data.state),
      formChip(data),
      h(
        "small",
        {},
        ` by ${data.issued_by ?? "an unnamed issuer"}${data.key ? `, signed with key ${data.key}` : ""}`,
      ),
      h(
        "ol",
        { class: "steps" },
        steps.map((step) => stepItem(step, first.at)),
      ),
      cancelling?.button({ device: event.device, ...data }),
    ),
  );
}

/** The times in the record of a command. */
const STATE_TIMES = [
  ["created_at", "queued"],
  ["sent_at", "sent"],
  ["acknowledged_at", "acknowledged"],
  ["confirmed_at", "confirmed"],
];

/** The steps in the record of a command, oldest first: `{at, data}`. */
export function stepsOf(record) {
  const steps = [];
  for (const [field, state] of STATE_TIMES) {
    const at = moment(record[field]);
    // Answer and reason belong to the state that they caused.
    if (at) steps.push({ at, data: state === record.state ? record : { state } });
  }
  if (!steps.some((step) => step.data.state === record.state)) {
    steps.push({ at: moment(record.ended_at) ?? steps.at(-1)?.at ?? 0, data: record });
  }
  return steps;
}

/** A chip for a form of a command that is not documented. */
export function formChip(command) {
  const said = provenance(command);
  return said ? h("span", { class: said, title: FORM_TITLES[said] }, `${said} form`) : null;
}

/** The state of a command as a chip. */
export function stateChip(state) {
  const meaning = STATES[state];
  return h(
    "span",
    { class: `chip chip-${meaning?.tone || "plain"}`, title: meaning?.text ?? "" },
    words(state ?? "unknown"),
  );
}

/** One step of a command: state, reason, answer, and time since the first step. */
export function stepItem({ data, at }, since) {
  const seconds = (at - since) / 1000;
  return h(
    "li",
    { class: hasEnded(data.state) ? "step ended" : "step" },
    h(
      "span",
      { class: "after", title: exact(at) },
      seconds > 0
        ? `+${seconds < 10 ? seconds.toFixed(3) : span(seconds)}${seconds < 10 ? " s" : ""}`
        : timeElement(at / 1000),
    ),
    h(
      "span",
      {},
      h("strong", {}, words(data.state ?? "unknown")),
      `: ${[STATES[data.state]?.text, data.reason, answerText(data.answer)].filter(Boolean).join("; ")}`,
    ),
  );
}
