// The state of all locks: loaded when the stream has started, then updated by it.

import { get } from "./api.js";
import { moment, now } from "./format.js";

/** Minimum interval of reloads after skipped events. */
const REFETCH_MS = 10000;
const RETRY_MS = 5000;
/** Regular reload, since no event reports an expired session of a crashed gateway. */
const REFRESH_MS = 300000;
/** The server caches the list for a second. */
const SHARED_MS = 1000;
const PAGE = 20000;

/** The row of a lock: its summary, and values for sorting and searching, computed once. */
class Row {
  constructor(summary, touched) {
    this.touched = touched;
    this.changed = 0;
    this.update(summary);
  }

  update(summary) {
    this.id = summary.device;
    this.summary = summary;
    this.seen = moment(summary.seen) ?? 0;
    this.key = summary.device.padStart(20, "0");
    this.where = summary.online
      ? [summary.gateway, summary.transport, summary.peer].filter(Boolean).join(" ")
      : "";
    this.alarms = summary.alarms.map((name) => name.replaceAll("_", " ")).join(", ");
    const searched = [
      summary.device,
      summary.imei,
      summary.gateway,
      summary.peer,
      summary.dialect,
      summary.firmware,
    ];
    this.text = [...searched, this.alarms, ...summary.alarms].filter(Boolean).join("\n").toLowerCase();
  }
}

/** Fires `change` after each change, without throttling. */
export class Fleet extends EventTarget {
  rows = new Map();
  loaded = false;
  error = null;
  #loading = null;
  #again = false;
  #fetched = 0;
  #timer = null;
  #due = 0;

  constructor(live) {
    super();
    live.addEventListener("devices", (event) => this.#updateSeen(event.detail.devices));
    live.addEventListener("event", (event) => this.#handleSession(event.detail));
    live.addEventListener("skipped", () => this.#scheduleReload(this.#fetched + REFETCH_MS - now()));
  }

  /** Load the list; a request during a load starts another one after it. */
  async load() {
    if (this.#loading) {
      this.#again = true;
      return this.#loading;
    }
    this.#loading = this.#load();
    try {
      await this.#loading;
    } finally {
      this.#loading = null;
    }
    if (this.#again) {
      this.#again = false;
      return this.load();
    }
  }

  async #load() {
    const begun = now();
    try {
      const seen = new Set();
      let cursor = null;
      let asOf = null;
      do {
        const page = await get("devices", { limit: PAGE, cursor });
        asOf ??= page.as_of;
        for (const summary of page.devices) {
          seen.add(summary.device);
          this.#update(summary, begun, true);
        }
        cursor = page.next;
      } while (cursor);
      for (const [id, row] of this.rows) if (!seen.has(id) && row.touched < begun) this.rows.delete(id);
      this.loaded = true;
      this.error = null;
      this.#fetched = now();
      setTimeout(() => this.#fillGap(asOf), SHARED_MS);
      this.#scheduleReload(REFRESH_MS);
    } catch (error) {
      this.error = error;
      this.#scheduleReload(RETRY_MS);
    }
    this.#notify();
  }

  /** Load devices seen between the list and the start of the stream. */
  async #fillGap(asOf) {
    const begun = now();
    try {
      const page = await get("devices", { seen_since: asOf });
      for (const summary of page.devices) this.#update(summary, begun, true);
      this.#notify();
    } catch {
      // The stream will detect that the gateway is unavailable.
    }
  }

  /** Schedule a reload, unless an earlier one is scheduled. */
  #scheduleReload(wait) {
    const due = now() + Math.max(0, wait);
    if (this.#timer !== null && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (document.hidden) this.#scheduleReload(REFRESH_MS);
      else this.load();
    }, due - now());
  }

  /** Update a row. Updates of the stream since `when` are newer than a list requested then. */
  #update(summary, when, listed = false) {
    const row = this.rows.get(summary.device);
    if (!row) {
      this.rows.set(summary.device, new Row(summary, when));
      return;
    }
    if (listed && row.touched > when && row.seen >= (moment(summary.seen) ?? 0)) return;
    if (hasChanged(row.summary, summary)) row.changed = now();
    row.update(summary);
    row.touched = Math.max(row.touched, when);
  }

  #updateSeen(summaries) {
    const when = now();
    for (const summary of summaries) this.#update(summary, when);
    this.#notify();
  }

  /** Mark a lock as offline; only its session event reports that. */
  #handleSession(event) {
    const row = event.kind === "session" ? this.rows.get(event.device) : undefined;
    if (!row || event.data?.state !== "offline") return;
    const away = { online: false, gateway: null, transport: null, peer: null, since: null };
    this.#update({ ...row.summary, ...away }, now());
    this.#notify();
  }

  #notify() {
    this.dispatchEvent(new Event("change"));
  }
}

function hasChanged(before, after) {
  return (
    before.lock_state !== after.lock_state ||
    before.online !== after.online ||
    before.alarms.join() !== after.alarms.join()
  );
}
