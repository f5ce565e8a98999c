// The last frames of a lock, each explained when it is opened.

import { h, setChildren } from "./dom.js";
import { explanation } from "./explain.js";
import { moment, timeElement } from "./format.js";
import { eventSummary } from "./event_summary.js";
import { PagedHistory } from "./paged_history.js";

/** Events per request, and frames loaded at first. */
const PAGE = 100;
const ENOUGH = 20;
/** Frames shown by default, and at most. */
const SHOWN = 100;
const MAX_SHOWN = 1000;

/** The frames of a device. `load()` loads the last ones, `add(event)` adds a live one. */
export class Frames {
  /** Newest first: `{raw, kinds, event, at, entry, element}`. Several events can come of one frame. */
  #frames = [];
  #known = new Set();
  #most = SHOWN;

  constructor(device) {
    this.list = h("ol", { class: "frames" });
    this.note = h("p", { class: "empty" }, "Loading…");
    this.pages = new PagedHistory({
      path: () => "events",
      params: () => ({ device, limit: PAGE }),
      wanted: ENOUGH,
      take: (page, begins) => this.#take(page, begins),
      changed: () => this.#draw(),
    });
    this.element = h("div", {}, this.list, this.note, this.pages.element);
  }

  /** Fetch the last events. */
  load() {
    return this.pages.newest();
  }

  /** Release all resources. */
  close() {
    this.pages.stop();
  }

  #take({ entries }, begins) {
    const joins = begins && this.pages.loaded && entries.some(({ event }) => this.#known.has(event.id));
    // Entries are missing in between: restart the list.
    if (begins && this.pages.loaded && !joins && entries.length) {
      this.#frames = [];
      this.#known.clear();
      this.#most = SHOWN;
      this.pages.full = "";
    }
    if (!begins) this.#most = Math.min(Math.max(this.#most, this.#frames.length + PAGE), MAX_SHOWN);
    const before = this.#frames.length;
    for (const { event, entry } of entries.toReversed()) this.#insert(event, entry);
    if (this.#frames.length >= MAX_SHOWN) this.pages.full = `The last ${MAX_SHOWN} are shown.`;
    return joins ? null : this.#frames.length - before;
  }

  /** Process a live event. */
  add(event) {
    this.#insert(event, null);
    this.#draw();
  }

  #insert(event, entry) {
    if (!event.raw || this.#known.has(event.id)) return;
    this.#known.add(event.id);
    const at = moment(event.received_at) ?? 0;
    const same = this.#frames.find((frame) => frame.raw === event.raw && frame.at === at);
    if (same) {
      same.events.push(event);
      same.element = frameItem(same, same.element.open);
      return;
    }
    const frame = { raw: event.raw, at, entry, events: [event] };
    frame.element = frameItem(frame, false);
    const index = this.#frames.findIndex((one) => one.at <= at);
    this.#frames.splice(index < 0 ? this.#frames.length : index, 0, frame);
    if (this.#frames.length <= this.#most) return;
    for (const old of this.#frames.pop().events) this.#known.delete(old.id);
    this.pages.rewind(this.#frames.findLast((one) => one.entry)?.entry);
  }

  // Existing elements stay: one may be open or focused.
  #draw() {
    const wanted = this.#frames.map((frame) => frame.element);
    wanted.forEach((element, index) => {
      if (this.list.children[index] !== element)
        this.list.insertBefore(element, this.list.children[index] ?? null);
    });
    while (this.list.children.length > wanted.length) this.list.lastElementChild.remove();
    const { problem, ended } = this.pages;
    this.note.hidden = !problem && this.#frames.length > 0;
    this.note.textContent = problem || (ended ? "No frames of this lock are kept." : "Loading…");
  }
}

function frameItem({ raw, events }, isOpen) {
  const body = h("div", {});
  const details = h(
    "details",
    { open: isOpen },
    h(
      "summary",
      {},
      timeElement(events[0].received_at),
      events.map((event) => h("span", { class: `kind kind-${event.kind}` }, event.kind.replaceAll("_", " "))),
      h("span", { class: "event-summary" }, eventSummary(events[0])),
    ),
    h("code", { class: "raw" }, raw),
    events[0].raw_masked
      ? h("p", { class: "hint" }, "The bytes of a password are shown as asterisks.")
      : null,
    body,
  );
  let asked = false;
  const opened = () => {
    if (!details.open || asked) return;
    asked = true;
    setChildren(body, explanation(raw));
  };
  details.addEventListener("toggle", opened);
  const item = h("li", {}, details);
  Object.defineProperty(item, "open", { get: () => details.open });
  return item;
}
