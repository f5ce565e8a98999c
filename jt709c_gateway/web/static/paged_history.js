// Loads the older entries of a list, page by page; each response reads a bounded number of entries.
//
// A page may have few entries or none, and still have a cursor. So pages are requested until the list has enough
// entries, or the end is reached; only then may a list say that it is empty.

import { get, errorText } from "./api.js";
import { h } from "./dom.js";
import { dated, now } from "./format.js";

/** The pause between requests, as a multiple of the duration of the last one, to limit the load. */
const REST = 2;
const MIN_PAUSE_MS = 100;
const MAX_PAUSE_MS = 2000;
/** The cursor of the beginning, for a list whose older part was dropped. */
const FROM_THE_NEWEST = "";
/** Tolerated difference between the clocks of this computer and of Redis. */
const SLACK_MS = 5000;

/**
 * The pages of a list.
 *
 * `path()` and `params()` give the request, `wanted` the number of entries to load. `take(page, begins)` adds a page
 * and returns the number of its entries, or null if its beginning overlaps the loaded entries. `changed()` is called
 * to redraw. `element` has the note and the button.
 */
export class PagedHistory {
  /** Whether a page was loaded since the start. */
  loaded = false;
  looking = false;
  /** The error of the last request. */
  problem = "";
  #full = "";
  #next = null;
  #rewound = false;
  #abort = null;
  /** When the newest page was last loaded. */
  #began = 0;

  constructor({ path, params, wanted, take, changed }) {
    Object.assign(this, { path, params, wanted, take, changed });
    this.note = h("p", { class: "hint looking", hidden: true });
    this.button = h(
      "button",
      { type: "button", class: "button", hidden: true, on: { click: () => this.older() } },
      "Older",
    );
    this.element = h("div", { class: "paged-history" }, this.note, this.button);
  }

  /** Whether the end has been reached. */
  get ended() {
    return this.loaded && !this.looking && !this.problem && this.#next === null;
  }

  /** The note that replaces the button if the list is full; "" otherwise. */
  set full(text) {
    if (text === this.#full) return;
    this.#full = text;
    this.#draw();
  }

  /** Load from the newest entry until there are enough, or until the loaded ones are reached. */
  newest() {
    return this.#look(null);
  }

  /** Load older entries. */
  older() {
    return this.#look(this.#next);
  }

  /** Continue behind this entry, or from the newest, after the list has dropped its oldest entries. */
  rewind(cursor) {
    this.#next = cursor ?? FROM_THE_NEWEST;
    this.#rewound = true;
    this.#draw();
  }

  /** Reset, since the request changes. */
  reset() {
    this.stop();
    this.loaded = false;
    this.problem = this.#full = "";
    this.#next = null;
    this.#draw();
  }

  /** Stop loading. */
  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.looking = false;
  }

  async #look(cursor) {
    const resumes = this.looking;
    this.stop();
    const abort = (this.#abort = new AbortController());
    this.looking = true;
    this.#draw();
    try {
      await this.#pages(cursor, resumes, abort.signal);
      this.problem = "";
    } catch (error) {
      if (this.#abort !== abort) return;
      // An unknown device has no entries.
      if (error.status === 404) this.loaded = true;
      this.problem = error.status === 404 ? "" : errorText(error);
    }
    if (this.#abort !== abort) return;
    this.looking = false;
    this.#draw();
    this.changed();
  }

  async #pages(from, resumes, signal) {
    let cursor = from;
    let found = 0;
    for (;;) {
      const [began, at] = [performance.now(), now()];
      const page = await get(this.path(), { ...this.params(), cursor }, signal);
      if (signal.aborted) return;
      this.#rewound = false;
      const taken = this.take(page, cursor === null);
      const joins = taken === null || (cursor === null && taken === 0 && this.#reached(page.next));
      if (!joins && !this.#rewound) this.#next = page.next;
      if (cursor === null) this.#began = at;
      this.loaded = true;
      this.problem = "";
      // Older entries are already loaded from the overlap on, unless they were just being requested.
      if (joins && !resumes) return;
      found += taken ?? 0;
      cursor = this.#next;
      if (cursor === null || found >= this.wanted || this.#full || this.#rewound) return;
      this.#draw();
      this.changed();
      const rest = Math.min(Math.max(REST * (performance.now() - began), MIN_PAUSE_MS), MAX_PAUSE_MS);
      await new Promise((resolve) => setTimeout(resolve, rest));
      if (signal.aborted) return;
    }
  }

  /** Whether an empty page reaches back to what was loaded before. */
  #reached(next) {
    return this.loaded && next !== null && timeOf(next) < this.#began - SLACK_MS;
  }

  #draw() {
    const at = timeOf(this.#next);
    const further = at ? `Looking further back, to ${dated(at)}…` : "";
    this.note.textContent = this.looking && this.loaded ? further : this.#full;
    this.note.hidden = this.note.textContent === "";
    this.button.hidden = this.#next === null || this.#full !== "";
    this.button.disabled = this.looking;
  }
}

/**
 * The time of a cursor: `<ms>-<number>` of a stream entry, perhaps with `:<partition>`, or `<seconds>:<id>` of a
 * command.
 */
function timeOf(cursor) {
  const [, seconds, ms] = /^(?:([0-9.e+]+):.*|([0-9]+)-[0-9]+(?::[0-9]+)?)$/.exec(cursor ?? "") ?? [];
  return seconds ? Number(seconds) * 1000 : ms ? Number(ms) : 0;
}
