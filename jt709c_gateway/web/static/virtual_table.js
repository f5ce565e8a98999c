// A table with elements for the visible rows only, so that its cost does not depend on the number of rows.
//
// The table has the focus and names its active row (aria-activedescendant), since row elements are reused for other
// rows, and the focus would move with them.

import { attribute, h, setChildren } from "./dom.js";

const OVERSCAN = 6;

/**
 * `columns` are `{name, title, text(row), render(row)}`: a cell is redrawn if its `text` changes, `render` returns its
 * children. `open(row)` is called for a click or Enter, `sort(name)` for a click on a header, `hold()` for any user
 * action; `rowClass(row)` may return a CSS class. With `marks` rows can be selected: a column with `mark` has the boxes,
 * and its `head` is what stands above them.
 */
export class VirtualTable {
  #rows = [];
  #pool = [];
  #active = null;
  #frame = null;
  #height = 0;
  #headHeight = 0;

  constructor({ label, columns, open, sort, rowClass = () => "", hold = () => {}, marks = null }) {
    this.columns = columns;
    this.open = open;
    this.rowClass = rowClass;
    this.marks = marks;
    this.headers = columns.map((column, index) =>
      h(
        "div",
        {
          role: "columnheader",
          class: `cell cell-${column.name}`,
          "aria-colindex": index + 1,
          "aria-sort": "none",
        },
        column.head ??
          h(
            "button",
            { type: "button", "data-sort": column.name, on: { click: () => sort(column.name) } },
            column.title,
          ),
      ),
    );
    this.head = h(
      "div",
      { role: "rowgroup", class: "grid-head" },
      h("div", { role: "row", class: "grid-row", "aria-rowindex": 1 }, this.headers),
    );
    this.body = h("div", { role: "rowgroup", class: "grid-body" });
    this.element = h(
      "div",
      {
        role: "grid",
        class: "grid",
        tabindex: 0,
        "aria-label": label,
        "aria-rowcount": 1,
        "aria-colcount": columns.length,
        "aria-multiselectable": marks ? "true" : null,
      },
      this.head,
      this.body,
    );
    this.element.addEventListener("scroll", () => this.#later(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("click", (event) => this.#click(event));
    for (const type of ["pointermove", "pointerdown", "wheel", "keydown"]) {
      this.element.addEventListener(type, hold, { passive: true });
    }
    this.observer = new ResizeObserver(() => this.#measure());
    this.observer.observe(this.element);
  }

  /** Set the rows. */
  set rows(rows) {
    this.#rows = rows;
    attribute(this.element, "aria-rowcount", rows.length + 1);
    this.#size();
    this.draw();
  }

  /** The rows. */
  get rows() {
    return this.#rows;
  }

  /** The id of the active row, or null. */
  get active() {
    return this.#active;
  }

  /** Set the sort column shown in the header. */
  sorted(name, descending) {
    this.columns.forEach((column, index) => {
      const way = column.name !== name ? "none" : descending ? "descending" : "ascending";
      attribute(this.headers[index], "aria-sort", way);
    });
  }

  /** Activate a row and scroll to it. */
  activate(id) {
    this.#active = id;
    const index = this.#rows.findIndex((row) => row.id === id);
    if (index >= 0) this.#reveal(index);
    this.draw();
  }

  /** Focus the table at the last active row, or at the first visible one. */
  enter() {
    const first = this.#rows[Math.ceil(this.element.scrollTop / (this.#height || 1))];
    if (!first) return;
    this.element.focus();
    if (!this.#rows.some((row) => row.id === this.#active)) this.activate(first.id);
  }

  /** Stop observing the size. */
  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  #measure() {
    const height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row-height")) || 40;
    this.#headHeight = this.head.offsetHeight;
    if (height !== this.#height) {
      const first = this.#height ? this.element.scrollTop / this.#height : 0;
      this.#height = height;
      this.#size();
      this.element.scrollTop = first * height;
    }
    this.draw();
  }

  #size() {
    this.body.style.height = `${this.#rows.length * this.#height}px`;
  }

  #later() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.draw();
    });
  }

  /** Redraw visible rows that have changed. */
  draw() {
    if (!this.#height || !this.element.isConnected) return;
    const sight = Math.ceil(this.element.clientHeight / this.#height) + 2 * OVERSCAN;
    while (this.#pool.length < sight) this.#pool.push(this.#line(this.#pool.length));
    const top = Math.max(0, Math.floor(this.element.scrollTop / this.#height) - OVERSCAN);
    const used = new Set();
    let active = null;
    for (let index = top; index < Math.min(top + sight, this.#rows.length); index += 1) {
      const line = this.#pool[index % this.#pool.length];
      used.add(line);
      this.#fill(line, this.#rows[index], index);
      if (this.#rows[index].id === this.#active) active = line.element.id;
    }
    for (const line of this.#pool) if (!used.has(line)) line.element.hidden = true;
    attribute(this.element, "aria-activedescendant", active);
  }

  #line(number) {
    const cells = this.columns.map((column, index) =>
      h("div", { role: "gridcell", class: `cell cell-${column.name}`, "aria-colindex": index + 1 }),
    );
    const element = h(
      "div",
      { role: "row", class: "grid-row", id: `grid-row-${number}`, hidden: true },
      cells,
    );
    this.body.append(element);
    return { element, cells, texts: cells.map(() => null), index: -1, look: "" };
  }

  #fill(line, row, index) {
    const { element } = line;
    if (line.index !== index) {
      line.index = index;
      element.style.transform = `translateY(${index * this.#height}px)`;
      attribute(element, "aria-rowindex", index + 2);
    }
    if (line.height !== this.#height) {
      line.height = this.#height;
      element.style.transform = `translateY(${index * this.#height}px)`;
    }
    element.dataset.id = row.id;
    element.hidden = false;
    const isActive = row.id === this.#active;
    attribute(element, "aria-selected", this.marks ? this.marks.has(row.id) : isActive);
    const look = `grid-row ${isActive ? "active " : ""}${this.rowClass(row)}`;
    if (look !== line.look) element.className = line.look = look;
    this.columns.forEach((column, at) => {
      const text = column.text(row);
      if (text === line.texts[at]) return;
      line.texts[at] = text;
      setChildren(line.cells[at], column.render(row));
    });
  }

  #reveal(index) {
    const top = index * this.#height;
    const sight = this.element.clientHeight - this.#headHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + this.#height > this.element.scrollTop + sight)
      this.element.scrollTop = top + this.#height - sight;
  }

  #key(event) {
    if (event.key === " " && this.marks && event.target === this.element) {
      const row = this.#rows.find((one) => one.id === this.#active);
      if (row) this.#mark(row, event.shiftKey);
      event.preventDefault();
      return;
    }
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.#rows.length - 1;
    const at = this.#rows.findIndex((row) => row.id === this.#active);
    const page = Math.max(1, Math.floor((this.element.clientHeight - this.#headHeight) / this.#height) - 1);
    const moves = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: last,
    };
    if (event.key in moves && last >= 0) {
      this.activate(this.#rows[Math.min(last, Math.max(0, moves[event.key]))].id);
    } else if (event.key === "Enter" && at >= 0) {
      this.open(this.#rows[at]);
    } else {
      return;
    }
    event.preventDefault();
  }

  #mark(row, extend) {
    if (extend) this.marks.extend(this.#rows, row.id);
    else this.marks.toggle(row.id);
  }

  #click(event) {
    const element = event.target.closest('[role="row"]');
    const row = element && this.#rows.find((one) => one.id === element.dataset.id);
    // Links in the row work as usual, also in another tab; selecting text is not a click.
    if (row && event.target.closest("[data-mark]")) {
      this.#active = row.id;
      this.#mark(row, event.shiftKey);
      // A box that is drawn anew has no focus: the keys go on in the table.
      this.element.focus({ preventScroll: true });
      return;
    }
    if (!row || event.target.closest("a") || String(getSelection())) return;
    this.#active = row.id;
    this.open(row);
  }
}
