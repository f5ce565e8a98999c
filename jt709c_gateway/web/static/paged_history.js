// What was: page after page of a list whose every answer looks at a bounded number of entries.
//
// One answer may have few entries, or none, and say where to go on all the same. So it is gone on until a list has
// got enough, or nothing older is kept; only then may a list say that there is nothing.

import { get, sentence } from "./api.js";
import { h } from "./dom.js";
import { exact, now } from "./format.js";

/** Between two calls: so many times as long as the last one took, that the gateway has other things to do. */
const REST = 2;
const LEAST_MS = 100;
const MOST_MS = 2000;
/** The cursor of the beginning, for a list whose older part has been let go of. */
const FROM_THE_NEWEST = "";
/** How much the clocks of this computer and of Redis may differ. */
const SLACK_MS = 5000;

/**
 * A list's way into the past.
 *
 * `path()` and `params()` say what is asked for, and `wanted` how many entries are enough. `take(page, begins)` takes
 * an answer in and says how many entries that were, or null when what it begins with joins what is there already.
 * `changed()` is called when there is something to draw. `element` has the note and the button.
 */
export class PagedHistory {
  /** Whether an answer has come since the beginning. */
  loaded = false;
  looking = false;
  /** Why the last call failed. */
  problem = "";
  #full = "";
  #next = null;
  #rewound = false;
  #abort = null;
  /** When it was last looked at from the newest on. */
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

  /** Whether all that is kept has been looked at. */
  get ended() {
    return this.loaded && !this.looking && !this.problem && this.#next === null;
  }

  /** Said instead of offering more, when the list takes no more; "" as long as it does. */
  set full(text) {
    if (text === this.#full) return;
    this.#full = text;
    this.#draw();
  }

  /** Look from the newest on, until there is enough, or up to what is there already. */
  newest() {
    return this.#look(null);
  }

  /** Look further back. */
  older() {
    return this.#look(this.#next);
  }

  /** The list has let its oldest go: further back begins behind this entry, or with the newest. */
  rewind(cursor) {
    this.#next = cursor ?? FROM_THE_NEWEST;
    this.#rewound = true;
    this.#draw();
  }

  /** Forget where it was: something else is asked for. */
  reset() {
    this.stop();
    this.loaded = false;
    this.problem = this.#full = "";
    this.#next = null;
    this.#draw();
  }

  /** Look no further. */
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
      // Of what isn't known at all, nothing is kept.
      if (error.status === 404) this.loaded = true;
      this.problem = error.status === 404 ? "" : sentence(error);
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
      // Where it joins, what is older is there as well; unless that was just being looked for.
      if (joins && !resumes) return;
      found += taken ?? 0;
      cursor = this.#next;
      if (cursor === null || found >= this.wanted || this.#full || this.#rewound) return;
      this.#draw();
      this.changed();
      const rest = Math.min(Math.max(REST * (performance.now() - began), LEAST_MS), MOST_MS);
      await new Promise((resolve) => setTimeout(resolve, rest));
      if (signal.aborted) return;
    }
  }

  /** Whether an answer that ends here, and has nothing, goes back to where it was looked before. */
  #reached(next) {
    return this.loaded && next !== null && timeOf(next) < this.#began - SLACK_MS;
  }

  #draw() {
    const at = timeOf(this.#next);
    const further = at ? `Looking further back, to ${exact(at)}…` : "";
    this.note.textContent = this.looking && this.loaded ? further : this.#full;
    this.note.hidden = this.note.textContent === "";
    this.button.hidden = this.#next === null || this.#full !== "";
    this.button.disabled = this.looking;
  }
}

/** The moment of a cursor: of an entry of a stream, `<ms>-<number>`, or of a command, `<seconds>:<id>`. */
function timeOf(cursor) {
  const [, seconds, ms] = /^(?:([0-9.e+]+):.*|([0-9]+)-[0-9]+)$/.exec(cursor ?? "") ?? [];
  return seconds ? Number(seconds) * 1000 : ms ? Number(ms) : 0;
}
