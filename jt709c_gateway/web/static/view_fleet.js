// The fleet as a table.

import { h, throttle } from "./dom.js";
import { errorText } from "./api.js";
import { AlertsButton } from "./alerts_dialog.js";
import { FilterBar } from "./filter_bar.js";
import { ago, exact, known, now } from "./format.js";
import { deviceLink } from "./label.js";
import { MarkBar } from "./mark_bar.js";
import { markColumn } from "./mark_column.js";
import { needColumn } from "./need_column.js";
import { VirtualTable } from "./virtual_table.js";
import { icon, iconOf } from "./icons.js";

/** The table is not re-sorted until this time after the last user action. */
const HOLD_MS = 4000;
const FRESH_MS = 3000;

const where = (row) =>
  row.summary.online
    ? `${row.summary.gateway ?? "?"} · ${row.summary.transport ?? "?"} · ${row.summary.peer ?? "?"}`
    : "offline";

const COLUMNS = [
  {
    name: "device",
    title: "Device",
    text: (row) => `${row.id} ${JSON.stringify(row.summary.label)}`,
    render: (row) => deviceLink(row.id, row.summary.label, { tabindex: -1 }),
  },
  {
    name: "imei",
    title: "IMEI",
    text: (row) => known(row.summary.imei),
    render: (row) => known(row.summary.imei),
  },
  {
    name: "lock",
    title: "Lock",
    text: (row) =>
      `${iconOf(row.summary)} ${row.summary.lock_state} ${row.summary.online} ${row.summary.rope_open}`,
    render: (row) => {
      const text = `${row.summary.lock_state ?? "unknown"}${row.summary.rope_open ? ", rope open" : ""}`;
      // The title is for a narrow column, where the text is cut.
      return h("span", { title: text }, icon(iconOf(row.summary), !row.summary.online), text);
    },
  },
  {
    name: "battery",
    title: "Battery",
    text: (row) => `${row.summary.battery_percent} ${row.summary.charging}`,
    render: (row) => battery(row.summary),
  },
  {
    name: "signal",
    title: "Signal",
    text: (row) => known(row.summary.gsm_signal),
    render: (row) => known(row.summary.gsm_signal),
  },
  {
    name: "seen",
    title: "Last seen",
    text: (row) => `${row.seen} ${ago(row.seen)}`,
    render: (row) => h("time", { title: exact(row.seen), datetime: row.summary.seen }, ago(row.seen)),
  },
  {
    name: "where",
    title: "Connected",
    text: where,
    render: (row) => h("span", { title: where(row) }, where(row)),
  },
];

function battery(summary) {
  if (summary.battery_percent === null) return "—";
  const level = h("meter", {
    min: 0,
    max: 100,
    low: 21,
    high: 40,
    optimum: 100,
    value: summary.battery_percent,
    "aria-hidden": "true",
  });
  return [
    level,
    `${summary.battery_percent} %`,
    summary.charging ? h("span", { title: "charging" }, " ⚡") : "",
  ];
}

/** Open the view. */
export function open({ rights, fleet, selection, alerts, marks, go, memory }) {
  const all = h("input", {
    type: "checkbox",
    "aria-label": "Select all locks that are shown",
    on: { change: () => markShown() },
  });
  let touched = -Infinity;
  let answer = { rows: [], counts: {} };
  const bar = new FilterBar(selection, () => table.enter());
  const columns = [COLUMNS[0], needColumn(selection), ...COLUMNS.slice(1)];
  const table = new VirtualTable({
    label: "Locks",
    columns: rights.commands ? [markColumn(marks, fleet, all), ...columns] : columns,
    marks: rights.commands ? marks : null,
    open: (row) => go(`#/device/${encodeURIComponent(row.id)}`),
    sort: (name) => selection.sortBy(name),
    rowClass: (row) =>
      `${row.summary.online ? "" : "offline "}${row.need ? "need " : ""}${now() - row.changed < FRESH_MS ? "fresh" : ""}`,
    hold: () => {
      touched = performance.now();
    },
  });
  table.element.classList.toggle("markable", rights.commands);
  const markBar = rights.commands ? new MarkBar({ marks, fleet, rights, shown: () => answer.rows, go }) : null;
  const markShown = () => {
    const ids = answer.rows.map((row) => row.id);
    if (all.checked) marks.add(ids);
    else marks.remove(ids);
  };
  const marked = () => {
    const number = answer.rows.reduce((sum, row) => sum + (marks.has(row.id) ? 1 : 0), 0);
    all.checked = number > 0 && number === answer.rows.length;
    all.indeterminate = number > 0 && number < answer.rows.length;
    table.draw();
  };
  const sort = h(
    "select",
    { id: "sort", on: { change: () => selection.set({ sort: sort.value, descending: false }) } },
    columns.map((column) => h("option", { value: column.name }, column.title)),
  );
  const direction = h("button", {
    type: "button",
    class: "button small",
    on: { click: () => selection.sortBy(selection.sort) },
  });
  const alertsButton = new AlertsButton(alerts);
  bar.element
    .querySelector(".tools")
    .append(alertsButton.element, h("span", { class: "narrow-only sorter" }, h("label", { for: "sort" }, "sort "), sort, direction));
  const empty = h("p", { class: "empty" });
  const element = h(
    "div",
    { class: "view view-fleet" },
    h("h1", { class: "unseen", tabindex: -1 }, "Fleet"),
    bar.element,
    markBar?.element,
    empty,
    table.element,
  );

  const refresh = (asked) => {
    const fresh = selection.apply(fleet.rows);
    const held = !asked && performance.now() - touched < HOLD_MS;
    answer = {
      rows: held ? answer.rows.filter((row) => fleet.rows.get(row.id) === row) : fresh.rows,
      counts: fresh.counts,
    };
    table.rows = answer.rows;
    table.sorted(selection.sort, selection.descending);
    sort.value = selection.sort;
    direction.textContent = selection.descending ? "↓" : "↑";
    direction.setAttribute(
      "aria-label",
      selection.descending ? "descending; reverse the order" : "ascending; reverse the order",
    );
    const { counts, groups } = fresh;
    bar.update({ counts, groups, total: fleet.rows.size, shown: fresh.rows.length });
    showEmptyText();
    markBar?.update();
    marked();
  };
  const showEmptyText = () => {
    const text =
      fleet.error && !fleet.loaded
        ? errorText(fleet.error)
        : !fleet.loaded
          ? "Loading the locks…"
          : emptyText();
    empty.hidden = answer.rows.length > 0;
    if (empty.textContent !== text) empty.textContent = text;
  };
  const emptyText = () => {
    if (fleet.rows.size > 0) return "No lock matches. Escape clears the search; the count of all locks shows them.";
    return fleet.partial
      ? "No lock has reported in the partitions that can be read."
      : "No lock has reported yet. Locks appear here when they report.";
  };

  const changed = throttle(() => refresh(false), 500);
  const chosen = () => {
    refresh(true);
    table.element.scrollTop = 0;
  };
  fleet.addEventListener("change", changed);
  marks.addEventListener("change", marked);
  selection.addEventListener("change", chosen);
  const tick = setInterval(
    () => (performance.now() - touched < HOLD_MS ? table.draw() : refresh(false)),
    1000,
  );
  return {
    element,
    title: "Fleet",
    subscription: { devices: 1, kind: ["session"] },
    enter: () => table.enter(),
    opened: () => {
      refresh(true);
      if (memory.active) {
        table.activate(memory.active);
        table.element.focus();
      }
    },
    connected: (restarted) => (restarted || !fleet.loaded) && fleet.load(),
    close: () => {
      memory.active = table.active;
      clearInterval(tick);
      changed.stop();
      table.close();
      alertsButton.close();
      markBar?.close();
      marks.removeEventListener("change", marked);
      fleet.removeEventListener("change", changed);
      selection.removeEventListener("change", chosen);
    },
  };
}
