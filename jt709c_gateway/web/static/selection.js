// The filter and sort order of locks, shared by table and map and stored in the URL.

import { now } from "./format.js";
import { byNeed, isLow, needOf } from "./needs.js";

const LOCK_COMMAND = { unlocked: 0, locked: 1 };

/** Spans after which a lock counts as silent, seconds. */
export const SILENCES = [300, 900, 3600, 21600, 86400, 604800];

const USUAL_SILENCE = 3600;
const KEPT = "jt709c-silence";

/** The span that this browser's user chose last. */
function keptSilence() {
  try {
    const kept = Number(localStorage.getItem(KEPT));
    return SILENCES.includes(kept) ? kept : USUAL_SILENCE;
  } catch {
    return USUAL_SILENCE;
  }
}

/** Yes-or-no facets: name, text, and whether a row has it. Those of one group exclude each other; the first are `urgent`. */
export const FACETS = [
  { name: "attention", urgent: true, text: "Needs attention", has: (row) => row.need !== 0 },
  { name: "alarms", urgent: true, text: "Alarms", has: (row) => row.summary.alarms.length > 0 },
  { name: "unlocked", urgent: true, group: "lock", text: "Unlocked", has: (row) => row.summary.lock_state === "unlocked" },
  { name: "online", group: "link", text: "Online", has: (row) => row.summary.online },
  { name: "offline", group: "link", text: "Offline", has: (row) => !row.summary.online },
  { name: "locked", group: "lock", text: "Locked", has: (row) => row.summary.lock_state === "locked" },
  { name: "low", text: "Low battery", has: (row) => isLow(row.summary) },
  { name: "silent", text: "Silent", has: (row, since) => row.seen < since },
];

/** The sort key of each column but device and needs; null comes last in both directions. */
const SORT_KEYS = {
  group: (row) => row.summary.label?.group?.toLowerCase() ?? null,
  imei: (row) => row.summary.imei,
  lock: (row) => LOCK_COMMAND[row.summary.lock_state] ?? null,
  battery: (row) => row.summary.battery_percent,
  signal: (row) => row.summary.gsm_signal,
  seen: (row) => row.seen || null,
  where: ({ summary }) =>
    summary.online ? [summary.gateway, summary.transport, summary.peer].join(" ") : null,
};
const USUAL_SORT = "need";
const isColumn = (name) => name === "need" || name === "device" || Object.hasOwn(SORT_KEYS, name);
/** Columns whose first click sorts descending. */
const LARGEST_FIRST = new Set(["seen"]);

/** Whether a row has all facets and words. It runs for each row each second, so it makes no closures. */
function matches(row, facets, words, since) {
  for (const facet of facets) if (!facet.has(row, since)) return false;
  for (const word of words) if (!row.has(word)) return false;
  return true;
}

/** The order of names, with those without a name behind them. */
function byName(one, other) {
  if (one.order !== other.order) {
    if (one.order === null) return 1;
    if (other.order === null) return -1;
    return one.order < other.order ? -1 : 1;
  }
  return byNumber(one.id, other.id);
}

/** The order of ids, which are numbers without leading zeros. */
function byNumber(one, other) {
  return one.length - other.length || (one < other ? -1 : one > other ? 1 : 0);
}

/** The selection. Fires `change`. */
export class Selection extends EventTarget {
  text = "";
  /** The group of locks to show; "" for all. */
  group = "";
  facets = new Set();
  silence = keptSilence();
  sort = USUAL_SORT;
  descending = false;

  /** Change fields and fire `change`. */
  set(fields) {
    Object.assign(this, fields);
    this.dispatchEvent(new Event("change"));
  }

  /** Set the span after which a lock counts as silent, also for the next time without one in the URL. */
  keepSilence(silence) {
    try {
      localStorage.setItem(KEPT, silence);
    } catch {
      // It counts until the page is closed.
    }
    this.set({ silence });
  }

  /** Toggle a facet; the others of its group are switched off. */
  toggle(name) {
    const facets = new Set(this.facets);
    const group = FACETS.find((facet) => facet.name === name).group;
    if (!facets.delete(name)) {
      for (const other of FACETS) if (group && other.group === group) facets.delete(other.name);
      facets.add(name);
    }
    this.set({ facets });
  }

  /** Sort by a column, or reverse its order. */
  sortBy(name) {
    const descending = name === this.sort ? !this.descending : LARGEST_FIRST.has(name);
    this.set({ sort: name, descending });
  }

  /** Whether no filter is set. */
  get isWhole() {
    return this.text.trim() === "" && this.group === "" && this.facets.size === 0;
  }

  /** The matching rows, sorted, and the number of rows per facet and group. The facets count within the group. */
  apply(rows) {
    const at = now();
    const since = at - this.silence * 1000;
    const wanted = this.text.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = FACETS.filter((facet) => this.facets.has(facet.name));
    const counts = Object.fromEntries(FACETS.map((facet) => [facet.name, 0]));
    const groups = new Map();
    const found = [];
    for (const row of rows.values()) {
      row.need = needOf(row, this.silence, at);
      const group = row.summary.label?.group;
      if (group) groups.set(group, (groups.get(group) ?? 0) + 1);
      if (this.group && group !== this.group) continue;
      for (const facet of FACETS) if (facet.has(row, since)) counts[facet.name] += 1;
      if (matches(row, chosen, wanted, since)) found.push(row);
    }
    return { rows: this.#sort(found), counts, groups };
  }

  #sort(rows) {
    const way = this.descending ? -1 : 1;
    if (this.sort === "need") return rows.sort((a, b) => way * (byNeed(a, b) || byName(a, b)));
    if (this.sort === "device") return rows.sort((a, b) => way * byName(a, b));
    const keyOf = SORT_KEYS[this.sort];
    const keyed = rows.map((row) => ({ row, key: keyOf(row) }));
    keyed.sort((a, b) => {
      if (a.key !== b.key) {
        if (a.key === null) return 1;
        if (b.key === null) return -1;
        if (a.key < b.key) return -way;
        if (a.key > b.key) return way;
      }
      return byName(a.row, b.row);
    });
    return keyed.map((one) => one.row);
  }

  /** The selection as the query of a URL; "" for the default. */
  toQuery() {
    const query = new URLSearchParams();
    if (this.text.trim()) query.set("q", this.text.trim());
    if (this.group) query.set("group", this.group);
    if (this.facets.size) query.set("show", [...this.facets].join(" "));
    if (this.silence !== USUAL_SILENCE) query.set("silent", this.silence);
    if (this.sort !== USUAL_SORT || this.descending)
      query.set("sort", `${this.descending ? "-" : ""}${this.sort}`);
    return query.toString();
  }

  /** Apply the query of a URL; missing or invalid values get the default. */
  fromQuery(query) {
    const sort = (query.get("sort") ?? USUAL_SORT).replace(/^-/, "");
    const names = new Set((query.get("show") ?? "").split(" "));
    const silence = Number(query.get("silent") ?? keptSilence());
    this.set({
      text: query.get("q") ?? "",
      group: query.get("group") ?? "",
      facets: new Set(FACETS.filter((facet) => names.has(facet.name)).map((facet) => facet.name)),
      silence: SILENCES.includes(silence) ? silence : keptSilence(),
      sort: isColumn(sort) ? sort : USUAL_SORT,
      descending: isColumn(sort) && (query.get("sort") ?? "").startsWith("-"),
    });
  }
}
