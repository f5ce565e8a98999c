// The locks that the user has selected in the table, by their ids. They stay selected while rows move or are filtered.

/** The most locks that a command can be given to at once. */
export const MOST = 1000;

/** Fires `change`. */
export class Marks extends EventTarget {
  #ids = new Set();
  /** The lock that was marked last: a range begins there. */
  #last = null;

  get size() {
    return this.#ids.size;
  }

  /** The ids, in the order in which they were selected. */
  get ids() {
    return [...this.#ids];
  }

  has(id) {
    return this.#ids.has(id);
  }

  /** Select a lock, or no longer. */
  toggle(id) {
    if (!this.#ids.delete(id)) this.#ids.add(id);
    this.#last = id;
    this.#notify();
  }

  /** Select all rows from the last one that was selected to this one; or this one alone. */
  extend(rows, id) {
    const from = rows.findIndex((row) => row.id === this.#last);
    const to = rows.findIndex((row) => row.id === id);
    const [first, last] = from < 0 ? [to, to] : [Math.min(from, to), Math.max(from, to)];
    for (let index = first; index <= last; index += 1) this.#ids.add(rows[index].id);
    this.#last = id;
    this.#notify();
  }

  /** Select further locks. */
  add(ids) {
    for (const id of ids) this.#ids.add(id);
    this.#notify();
  }

  /** Select these locks no longer; all without an argument. */
  remove(ids = this.ids) {
    for (const id of ids) this.#ids.delete(id);
    this.#notify();
  }

  #notify() {
    this.dispatchEvent(new Event("change"));
  }
}
