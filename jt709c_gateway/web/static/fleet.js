// The locks as last heard of. The list is fetched whole when the stream has begun, and then kept up by it.

import { get } from "./api.js";
import { moment, now } from "./format.js";

/** At most so often the list is fetched again because the stream had to leave something out. */
const REFETCH_MS = 10000;
const RETRY_MS = 5000;
/** Nothing tells that a session has run out whose gateway nobody missed: so it is asked for now and then. */
const REFRESH_MS = 300000;
/** The server gives the same list to all who ask within a second. */
const SHARED_MS = 1000;
const PAGE = 20000;

/** What is kept of a lock: its summary, and what sorting and searching need of it, worked out once. */
class Row {
  constructor(summary, touched) {
    this.touched = touched;
    this.changed = 0;
    this.take(summary);
  }

  take(summary) {
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

/** Fires `change` when something in it is different, at once and not paced. */
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
    live.addEventListener("devices", (event) => this.#heard(event.detail.devices));
    live.addEventListener("event", (event) => this.#event(event.detail));
    live.addEventListener("skipped", () => this.#later(this.#fetched + REFETCH_MS - now()));
  }

  /** Fetch the list; one that is asked for meanwhile follows it. */
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
          this.#take(summary, begun, true);
        }
        cursor = page.next;
      } while (cursor);
      for (const [id, row] of this.rows) if (!seen.has(id) && row.touched < begun) this.rows.delete(id);
      this.loaded = true;
      this.error = null;
      this.#fetched = now();
      setTimeout(() => this.#fillGap(asOf), SHARED_MS);
      this.#later(REFRESH_MS);
    } catch (error) {
      this.error = error;
      this.#later(RETRY_MS);
    }
    this.#tell();
  }

  /** What was heard after the list was made and before the stream had begun is in neither. */
  async #fillGap(asOf) {
    const begun = now();
    try {
      const page = await get("devices", { seen_since: asOf });
      for (const summary of page.devices) this.#take(summary, begun, true);
      this.#tell();
    } catch {
      // The stream will find out that the gateway is away.
    }
  }

  /** Fetch the list after so long, unless it is to be fetched before that. */
  #later(wait) {
    const due = now() + Math.max(0, wait);
    if (this.#timer !== null && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (document.hidden) this.#later(REFRESH_MS);
      else this.load();
    }, due - now());
  }

  /** Take in a summary. What the stream said since `when` is newer than a list begun then. */
  #take(summary, when, listed = false) {
    const row = this.rows.get(summary.device);
    if (!row) {
      this.rows.set(summary.device, new Row(summary, when));
      return;
    }
    if (listed && row.touched > when && row.seen >= (moment(summary.seen) ?? 0)) return;
    if (isOther(row.summary, summary)) row.changed = now();
    row.take(summary);
    row.touched = Math.max(row.touched, when);
  }

  #heard(summaries) {
    const when = now();
    for (const summary of summaries) this.#take(summary, when);
    this.#tell();
  }

  /** A lock that has gone offline is not heard of: that is told by its session's event only. */
  #event(event) {
    const row = event.kind === "session" ? this.rows.get(event.device) : undefined;
    if (!row || event.data?.state !== "offline") return;
    const away = { online: false, gateway: null, transport: null, peer: null, since: null };
    this.#take({ ...row.summary, ...away }, now());
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}

function isOther(before, after) {
  return (
    before.lock_state !== after.lock_state ||
    before.online !== after.online ||
    before.alarms.join() !== after.alarms.join()
  );
}
