// Keeps which locks need somebody, and finds those that begin to.

import { now } from "./format.js";
import { ALARM, LOW_ALARM, MOVING, needOf } from "./needs.js";

/** The minimum time between two passes over the fleet, and the interval of passes without a change. */
const PASS_MS = 300;
const TICK_MS = 10000;
/** The stream brings something every 15 s. Beyond this time nothing is known of locks that are quiet. */
const HEARD_MS = 30000;

/**
 * Fires `change` when the count changes, and `news` with `[{row, need, alarms}]` as detail: locks with needs, and names
 * of alarms, that they did not have before. Each is told once until it has cleared; that a lock moves unlocked, until it
 * is no longer unlocked, since vehicles stop and go. What there is when the fleet is first loaded is no news.
 */
export class Attention extends EventTarget {
  count = 0;
  #last = -Infinity;
  #timer = null;
  #begun = false;

  constructor(fleet, selection, live) {
    super();
    this.fleet = fleet;
    this.selection = selection;
    this.live = live;
    fleet.addEventListener("change", () => this.#soon());
    selection.addEventListener("change", () => this.#soon());
    setInterval(() => this.#soon(), TICK_MS);
  }

  /** Run at once where that is possible: the timers of a hidden page are slow. */
  #soon() {
    const wait = this.#last + PASS_MS - performance.now();
    if (wait <= 0) this.#pass();
    else
      this.#timer ??= setTimeout(() => {
        this.#timer = null;
        this.#pass();
      }, wait);
  }

  #pass() {
    this.#last = performance.now();
    const { fleet, live, selection } = this;
    if (!fleet.current) return;
    const at = Math.min(now(), live.heard + HEARD_MS);
    const news = [];
    let count = 0;
    for (const row of fleet.rows.values()) {
      row.need = needOf(row, selection.silence, at);
      if (row.need !== 0) count += 1;
      if (row.need === row.told && (row.need & ALARM) === 0) continue;
      const found = tell(row);
      if (found && this.#begun) news.push(found);
    }
    this.#begun = true;
    if (count !== this.count) {
      this.count = count;
      this.dispatchEvent(new Event("change"));
    }
    if (news.length) this.dispatchEvent(new CustomEvent("news", { detail: news }));
  }
}

/** Note what is told of a row; returns what is new, or null. */
function tell(row) {
  const { alarms } = row.summary;
  const kept = row.summary.lock_state === "unlocked" ? row.told & MOVING : 0;
  let need = row.need & ~row.told;
  let fresh = [];
  if (alarms !== row.toldAlarms) {
    fresh = alarms.filter((name) => name !== LOW_ALARM && !row.toldAlarms.includes(name));
    if (fresh.length) need |= ALARM;
    row.toldAlarms = alarms;
  }
  row.told = row.need | kept;
  return need === 0 ? null : { row, need, alarms: fresh };
}
