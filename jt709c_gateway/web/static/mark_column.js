// The column of boxes in the table of the fleet.

import { lockName } from "./batch_texts.js";
import { h } from "./dom.js";

/** The column of boxes; `all` above them selects all rows that are shown. */
export function markColumn(marks, fleet, all) {
  return {
    name: "mark",
    title: "Select",
    head: h("label", { class: "mark-all", title: "Select all that are shown" }, all),
    text: (row) => `${marks.has(row.id)} ${row.id} ${row.summary.label?.name}`,
    render: (row) =>
      h("input", {
        type: "checkbox",
        checked: marks.has(row.id),
        tabindex: -1,
        "data-mark": true,
        "aria-label": `Select ${lockName(row.id, fleet)}`,
      }),
  };
}
