// Groups locks that are close together on the screen, with the number of locks in each state.

import { WORLD, mapX, mapY } from "./canvas_layer.js";
import { count } from "./format.js";

/** The states of a lock on the map, most urgent first; a lock is counted in the first that it has. */
export const STATES = ["alarm", "unlocked", "silent", "unknown", "locked"];
/** The states in words. */
const WORDS = ["alarm", "unlocked", "silent", "state unknown", "locked"];
/** Pixels across a square of the grid; the locks in a square are one group. */
const SQUARE = 84;
/** Pixels between the middles of groups, at least: groups of neighbouring squares that are closer are one. */
export const DISTANCE = 60;

/** The number of the state of a row. Locks that were not heard `since`, ms since 1970, are silent. */
export function stateOf({ summary, seen }, since) {
  if (summary.alarms.length > 0) return 0;
  if (summary.lock_state === "unlocked") return 1;
  if (seen < since) return 2;
  return summary.lock_state === "locked" ? 4 : 3;
}

/** Rows with a position, each with its place on a map whose width is 1, and its state. */
export function placedRows(rows, since) {
  const placed = [];
  for (const row of rows) {
    const { latitude, longitude } = row.summary;
    if (typeof latitude !== "number" || typeof longitude !== "number") continue;
    placed.push({ row, x: mapX(longitude), y: mapY(latitude), state: stateOf(row, since) });
  }
  return placed;
}

/** A distance to the east on the map, the short way round the world. */
export const across = (from, to) => to - from - Math.round(to - from);

/** One or more locks that are drawn as one: `members` are placed rows, `counts` those in each state. */
class Group {
  members = [];
  counts = STATES.map(() => 0);
  #x = 0;
  #y = 0;

  constructor(key, first) {
    this.key = key;
    this.from = first;
  }

  add(member) {
    this.members.push(member);
    this.counts[member.state] += 1;
    this.#x += across(this.from.x, member.x);
    this.#y += member.y;
  }

  /** The most urgent state in it. */
  get state() {
    return this.counts.findIndex((number) => number > 0);
  }

  /** Its middle. */
  get middle() {
    const number = this.members.length;
    return { x: this.from.x + this.#x / number, y: this.#y / number };
  }

  /** The box around its members: west, north, east, south; east may be beyond the end of the map. */
  get box() {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (const { x, y } of this.members) {
      const at = this.from.x + across(this.from.x, x);
      box[0] = Math.min(box[0], at);
      box[1] = Math.min(box[1], y);
      box[2] = Math.max(box[2], at);
      box[3] = Math.max(box[3], y);
    }
    return box;
  }
}

/** Group placed rows at a zoom. Groups stay the same while the map is dragged, and have an `x` and `y`. */
export function grouped(placed, zoom) {
  const size = WORLD * 2 ** zoom;
  const squares = new Map();
  for (const member of placed) {
    const key = `${Math.floor((member.x * size) / SQUARE)}:${Math.floor((member.y * size) / SQUARE)}`;
    let group = squares.get(key);
    if (!group) squares.set(key, (group = new Group(key, member)));
    group.add(member);
  }
  return joined([...squares.values()], size);
}

/** Join groups that are too close: the larger ones take the smaller ones, and stay where they are. */
function joined(groups, size) {
  groups.sort((one, other) => other.members.length - one.members.length);
  const columns = Math.max(1, Math.floor(size / DISTANCE));
  const column = (x) => ((Math.floor(x * columns) % columns) + columns) % columns;
  const taken = new Map();
  const kept = [];
  for (const group of groups) {
    const { x, y } = group.middle;
    const near = nearest(taken, x, y, columns, column);
    if (near && Math.hypot(across(near.x, x), y - near.y) * size < DISTANCE) {
      for (const member of group.members) near.add(member);
      continue;
    }
    [group.x, group.y] = [x, y];
    kept.push(group);
    const cell = `${column(x)}:${Math.floor(y * columns)}`;
    if (taken.has(cell)) taken.get(cell).push(group);
    else taken.set(cell, [group]);
  }
  return kept;
}

/** The kept group that is nearest, of this cell and those around it. */
function nearest(taken, x, y, columns, column) {
  let best = null;
  let least = Infinity;
  for (const dx of [-1, 0, 1]) {
    for (const dy of [-1, 0, 1]) {
      for (const one of taken.get(`${column(x + dx / columns)}:${Math.floor(y * columns) + dy}`) ?? []) {
        const far = Math.hypot(across(one.x, x), y - one.y);
        if (far < least) [best, least] = [one, far];
      }
    }
  }
  return best;
}

/** What a group has, in words: "37 locks: 2 alarm, 5 unlocked, 30 locked". */
export function sentence({ members, counts }) {
  const parts = counts.map((number, state) => (number ? `${count(number)} ${WORDS[state]}` : ""));
  return `${count(members.length)} locks: ${parts.filter(Boolean).join(", ")}`;
}

/** The western and eastern end of places on the map, the short way round the world. */
export function shortSpan(places) {
  const sorted = Float64Array.from(places).sort();
  let [west, east] = [sorted[0], sorted.at(-1)];
  let gap = west + 1 - east;
  for (let at = 1; at < sorted.length; at += 1) {
    const between = sorted[at] - sorted[at - 1];
    if (between > gap) [gap, west, east] = [between, sorted[at], sorted[at - 1] + 1];
  }
  return (west + east) / 2 > 1 ? [west - 1, east - 1] : [west, east];
}
