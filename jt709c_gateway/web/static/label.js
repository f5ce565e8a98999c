// What people call a lock: its name, group, plate and note.

import { get } from "./api.js";
import { h, setChildren } from "./dom.js";

/** Labels per request. */
const PAGE = 5000;
const ID = /^([0-9]{1,20}|[0-9A-Fa-f]{10})$/;

/** The name of a lock, or its id: of a summary or of anything else with `device` and perhaps `label`. */
export function deviceName(one) {
  return one.label?.name ?? one.device;
}

/** The name and the id, or the id alone: "Truck 12 (794308010001)". */
export function fullName(device, label) {
  return label?.name ? `${label.name} (${device})` : device;
}

/** The children of an element that names a lock: its name with the id small below it, or the id alone. */
export function nameParts(device, label) {
  if (!label?.name) return [device];
  return [h("span", { class: "device-name" }, label.name), h("small", { class: "device-id" }, device)];
}

/** A link to the page of a lock, which `Labels.rename` keeps up to date. */
export function deviceLink(device, label, props = {}) {
  const href = `#/device/${encodeURIComponent(device)}`;
  return h("a", { ...props, href, title: titleOf(label), "data-device": device }, nameParts(device, label));
}

/** Group, plate and note in one line: the text on hover, or null. */
function titleOf(label) {
  return [label?.group, label?.plate, label?.note].filter(Boolean).join(" · ") || null;
}

/**
 * The labels of all locks, for views without the rows of the fleet. Loaded when `load` is called first, and updated by
 * the stream. Fires `change`.
 */
export class Labels extends EventTarget {
  #labels = new Map();
  #loaded = false;
  #loading = null;

  constructor(live) {
    super();
    live.addEventListener("labels", (event) => this.#update(event.detail.labels));
  }

  /** The label of a lock; undefined when it has none, or they are not loaded. */
  of(device) {
    return this.#labels.get(device);
  }

  /** Load all labels; `anew` also when they were loaded before. A failure leaves ids without names. */
  async load(anew = false) {
    if (this.#loaded && !anew) return;
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    await this.#loading;
  }

  async #load() {
    const found = new Map();
    let cursor = null;
    try {
      do {
        const page = await get("labels", { limit: PAGE, cursor });
        for (const { device, label } of page.labels) found.set(device, label);
        cursor = page.next;
      } while (cursor);
    } catch {
      return;
    }
    this.#labels = found;
    this.#loaded = true;
    this.dispatchEvent(new Event("change"));
  }

  #update(list) {
    for (const { device, label } of list) {
      if (label) this.#labels.set(device, label);
      else this.#labels.delete(device);
    }
    this.dispatchEvent(new Event("change"));
  }

  /** All groups, in order. */
  get groups() {
    const found = new Set([...this.#labels.values()].map((label) => label.group).filter(Boolean));
    return [...found].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  }

  /** The id of the lock that a text means: an id, a name or a plate. Ambiguous and unknown texts stay. */
  resolve(text) {
    if (text === "" || ID.test(text)) return text;
    const wanted = text.toLowerCase();
    const found = [];
    for (const [device, { name, plate }] of this.#labels) {
      if (name?.toLowerCase() === wanted || plate?.toLowerCase() === wanted) found.push(device);
    }
    return found.length === 1 ? found[0] : text;
  }

  /** Show the present names in the links within an element. */
  rename(element) {
    for (const link of element.querySelectorAll("a[data-device]")) {
      const { device } = link.dataset;
      const label = this.of(device);
      const text = label?.name ? label.name + device : device;
      if (link.textContent === text) continue;
      setChildren(link, nameParts(device, label));
      link.title = titleOf(label) ?? "";
    }
  }
}
