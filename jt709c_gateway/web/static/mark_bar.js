// The bar below the filters that says how many locks are selected, and what can be done with them.

import { BatchDialog } from "./batch_dialog.js";
import { attribute, h, setChildren } from "./dom.js";
import { count } from "./format.js";
import { MOST } from "./marks.js";
import { pendingBatches } from "./pending_batches.js";

/** The bar. `shown()` returns the rows of the table, `go` opens a view. */
export class MarkBar {
  constructor({ marks, fleet, rights, shown, go }) {
    this.marks = marks;
    this.fleet = fleet;
    this.shown = shown;
    this.text = h("strong", { role: "status" });
    this.command = h(
      "button",
      { type: "button", class: "button primary", on: { click: () => this.dialog.open(marks.ids) } },
      "Give them a command…",
    );
    this.clear = h(
      "button",
      { type: "button", class: "button", on: { click: () => marks.remove() } },
      "Select none",
    );
    this.group = h(
      "select",
      { id: "mark-group", on: { change: () => this.#addGroup() } },
      h("option", { value: "" }, "choose…"),
    );
    this.groupField = h("label", { class: "field-inline", hidden: true }, "select all of group ", this.group);
    this.pending = h("p", { class: "problem", hidden: true });
    this.dialog = new BatchDialog({ fleet, marks, rights, go });
    this.element = h(
      "section",
      { class: "markbar", "aria-label": "Selected locks" },
      h("div", { class: "tools" }, this.text, this.command, this.clear, this.groupField),
      this.pending,
      this.dialog.element,
    );
    this.changed = () => this.update();
    marks.addEventListener("change", this.changed);
  }

  /** Show the number of selected locks, and the groups that there are. */
  update() {
    const { size } = this.marks;
    const shown = new Set(this.shown().map((row) => row.id));
    const hidden = this.marks.ids.filter((id) => !shown.has(id)).length;
    const more = hidden ? `, ${count(hidden)} of them not shown` : "";
    const most = size > MOST ? `; a command goes to ${count(MOST)} at most` : "";
    const text = size ? `${count(size)} ${size === 1 ? "lock" : "locks"} selected${more}${most}` : "";
    if (this.text.textContent !== text) this.text.textContent = text;
    this.command.hidden = this.clear.hidden = size === 0;
    attribute(this.command, "disabled", size > MOST ? "" : null);
    this.#offerGroups();
    this.#showPending();
    this.element.hidden = size === 0 && this.groupField.hidden && this.pending.hidden;
  }

  /** Release all resources. */
  close() {
    this.marks.removeEventListener("change", this.changed);
    this.dialog.close();
  }

  #offerGroups() {
    const groups = new Set();
    for (const row of this.fleet.rows.values()) if (row.summary.label?.group) groups.add(row.summary.label.group);
    const names = [...groups].sort((a, b) => a.localeCompare(b));
    const key = names.join("\n");
    this.groupField.hidden = names.length === 0;
    if (this.group.dataset.key === key) return;
    this.group.dataset.key = key;
    setChildren(
      this.group,
      h("option", { value: "" }, "choose…"),
      names.map((name) => h("option", { value: name }, name)),
    );
  }

  #addGroup() {
    const name = this.group.value;
    this.group.value = "";
    if (!name) return;
    const rows = [...this.fleet.rows.values()].filter((row) => row.summary.label?.group === name);
    this.marks.add(rows.map((row) => row.id));
  }

  /** Batches without an answer, until their state is known. */
  #showPending() {
    const batches = pendingBatches();
    const key = batches.map((one) => one.id).join();
    this.pending.hidden = batches.length === 0;
    if (this.pending.dataset.key === key) return;
    this.pending.dataset.key = key;
    setChildren(
      this.pending,
      "There was no answer to a command for many locks; it may have been given: ",
      batches.map((one) => h("a", { href: `#/batch/${encodeURIComponent(one.id)}` }, `what became of it (${one.count} locks)`)),
    );
  }
}
