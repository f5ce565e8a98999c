// The state of all locks: loaded when the stream has started, then updated by it.

import { get } from "./api.js";
import { moment, now, words } from "./format.js";

/** Minimum interval of reloads after skipped events. */
const REFETCH_MS = 10000;
const RETRY_MS = 5000;
/** Regular reload, since no event reports an expired session of a crashed gateway. */
const REFRESH_MS = 300000;
/** The server caches the list for a second. */
const SHARED_MS = 1000;
/** Locks per request. The parsed list of a page is dropped before the next one is loaded. */
const PAGE = 2000;
/** The fields of a summary that a search looks at, besides the label and the alarms. */
const SEARCHED = ["device", "imei", "gateway", "peer", "dialect", "firmware"];
const LABEL = ["name", "group", "plate", "note"];

const NO_ALARMS = [];

/** The row of a lock. What can be had from the summary is not kept, since a fleet may have 10,000 rows. */
class Row {
  changed = 0;
  /** Its needs, those that were told and the alarms that were (attention.js). */
  need = 0;
  told = 0;
  toldAlarms = NO_ALARMS;
  /** Seconds between its reports, as far as this page has seen them: the last interval, or half of a longer one before. */
  interval = 0;

  constructor(summary, touched) {
    this.touched = touched;
    this.update(summary);
  }

  update(summary) {
    this.id = summary.device;
    this.summary = summary;
    const seen = moment(summary.seen) ?? 0;
    if (this.seen && seen > this.seen)
      this.interval = Math.round(Math.max((seen - this.seen) / 1000, this.interval / 2));
    this.seen = seen;
    this.order = summary.label?.name ? byNumbers(summary.label.name) : null;
  }

  /** The name of the lock, or its id. */
  get name() {
    return this.summary.label?.name ?? this.id;
  }

  /** The names of the alarms in words, or "". */
  get alarms() {
    return this.summary.alarms.map(words).join(", ");
  }

  /** Whether a word in lower case is in one of the texts. */
  has(word) {
    for (const name of SEARCHED) if (this.summary[name]?.toLowerCase().includes(word)) return true;
    const { label } = this.summary;
    if (label) for (const name of LABEL) if (label[name]?.toLowerCase().includes(word)) return true;
    return this.summary.alarms.some((name) => name.toLowerCase().includes(word));
  }
}

/** A name as text that sorts its numbers by size: "truck 9" before "truck 12". */
function byNumbers(name) {
  return name.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(10, "0"));
}

/** Fires `change` after each change, without throttling. */
export class Fleet extends EventTarget {
  rows = new Map();
  loaded = false;
  error = null;
  /** Whether the list lacked the locks of partitions that are away. */
  partial = false;
  /** Whether the rows have what the gateway knows: a list, and all updates since then. */
  current = false;
  #loading = null;
  #again = false;
  #fetched = 0;
  #timer = null;
  #due = 0;

  constructor(live) {
    super();
    this.live = live;
    live.addEventListener("state", () => {
      if (!live.withDevices || live.state === "lost" || live.state === "paused") this.current = false;
    });
    live.addEventListener("devices", (event) => this.#updateSeen(event.detail.devices));
    live.addEventListener("labels", (event) => this.#updateLabels(event.detail.labels));
    live.addEventListener("event", (event) => this.#handleSession(event.detail));
    live.addEventListener("skipped", () => this.#scheduleReload(this.#fetched + REFETCH_MS - now()));
  }

  /** The groups of the locks that are loaded. */
  get groups() {
    const found = new Set();
    for (const { summary } of this.rows.values()) if (summary.label?.group) found.add(summary.label.group);
    return [...found].sort();
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
      this.partial = false;
      const asOf = await this.#readPages({}, begun);
      this.loaded = true;
      this.current = this.live.withDevices && this.live.state === "live";
      this.error = null;
      this.#fetched = now();
      setTimeout(() => this.#fillGap(asOf, begun), SHARED_MS);
      this.#scheduleReload(REFRESH_MS);
    } catch (error) {
      this.error = error;
      this.#scheduleReload(RETRY_MS);
    }
    this.#notify();
  }

  /** Update the rows from all pages of a list; returns the time of its first page. */
  async #readPages(params, when) {
    let asOf = null;
    let cursor = null;
    do {
      const page = await get("devices", { ...params, limit: PAGE, cursor });
      asOf ??= page.as_of;
      this.partial ||= Boolean(page.partitions_away);
      for (const summary of page.devices) this.#update(summary, when, true);
      cursor = page.next;
    } while (cursor);
    return asOf;
  }

  /**
   * Load devices seen since the list, before the stream had started or while a page was turned. Then remove those that
   * neither the list since `begun` nor the stream has had, unless they are in a partition that is away.
   */
  async #fillGap(asOf, begun) {
    try {
      await this.#readPages({ seen_since: asOf }, now());
      if (!this.partial) for (const [id, row] of this.rows) if (row.touched < begun) this.rows.delete(id);
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

  #updateLabels(list) {
    for (const { device, label } of list) {
      const summary = this.rows.get(device)?.summary;
      if (summary) this.#update({ ...summary, label }, now());
    }
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
