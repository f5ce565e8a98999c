// The last frames of a lock, each taken apart when it is opened.

import { get, sentence } from "./api.js";
import { h, show } from "./dom.js";
import { explanation } from "./explain.js";
import { moment, timeElement } from "./format.js";
import { gist } from "./gist.js";

const PAGE = 100;
const MOST = 100;

/** The frames of a device. `load()` fetches the last ones, `add(event)` takes in a live one. */
export class Frames {
  /** Newest first: `{raw, kinds, event, at, element}`. Several events can come of one frame. */
  #frames = [];
  #known = new Set();

  constructor(device) {
    this.device = device;
    this.list = h("ol", { class: "frames" });
    this.note = h("p", { class: "empty" }, "Loading…");
    this.element = h("div", {}, this.list, this.note);
  }

  /** Fetch the last events. */
  async load() {
    let problem = "";
    try {
      const page = await get("events", { device: this.device, limit: PAGE });
      for (const { event } of page.entries.toReversed()) this.#insert(event);
    } catch (error) {
      problem = sentence(error);
    }
    this.#draw(problem);
  }

  /** Take in a live event. */
  add(event) {
    this.#insert(event);
    this.#draw("");
  }

  #insert(event) {
    if (!event.raw || this.#known.has(event.id)) return;
    this.#known.add(event.id);
    const at = moment(event.received_at) ?? 0;
    const same = this.#frames.find((frame) => frame.raw === event.raw && frame.at === at);
    if (same) {
      same.events.push(event);
      same.element = frameItem(same, same.element.open);
      return;
    }
    const frame = { raw: event.raw, at, events: [event] };
    frame.element = frameItem(frame, false);
    const index = this.#frames.findIndex((one) => one.at <= at);
    this.#frames.splice(index < 0 ? this.#frames.length : index, 0, frame);
    while (this.#frames.length > MOST)
      for (const old of this.#frames.pop().events) this.#known.delete(old.id);
  }

  // Elements that are there stay: one may be open, or have the focus.
  #draw(problem) {
    const wanted = this.#frames.map((frame) => frame.element);
    wanted.forEach((element, index) => {
      if (this.list.children[index] !== element)
        this.list.insertBefore(element, this.list.children[index] ?? null);
    });
    while (this.list.children.length > wanted.length) this.list.lastElementChild.remove();
    this.note.hidden = !problem && this.#frames.length > 0;
    this.note.textContent = problem || "Nothing that it sent is kept any more.";
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
      h("span", { class: "gist" }, gist(events[0])),
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
    show(body, explanation(raw));
  };
  details.addEventListener("toggle", opened);
  const item = h("li", {}, details);
  Object.defineProperty(item, "open", { get: () => details.open });
  return item;
}
