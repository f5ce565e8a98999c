// The needs of a lock in words, as the table and the lock's page show them.

import { h } from "./dom.js";
import { ALARM, BATTERY, MOVING, SILENT, reasonText, reasonsOf } from "./needs.js";

/** Alarms keep the class that they have everywhere. */
const CLASSES = { [ALARM]: "alarms", [MOVING]: "moving", [SILENT]: "silent", [BATTERY]: "low" };

/** The needs of a row as elements, with commas between them; [] if there are none. */
export function reasonElements(row, silence) {
  return reasonsOf(row, silence).map(({ need, text }, index) => [
    index ? ", " : "",
    h("span", { class: CLASSES[need] }, text),
  ]);
}

/** The column of the fleet's table. */
export function needColumn(selection) {
  return {
    name: "need",
    title: "Needs attention",
    text: (row) => reasonText(row, selection.silence),
    // The title is for a narrow column, where the text is cut.
    render: (row) =>
      h("span", { title: reasonText(row, selection.silence) }, reasonElements(row, selection.silence)),
  };
}
