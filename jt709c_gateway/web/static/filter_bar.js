// The bar above table and map: search, facets with their counts, and the time after which a lock counts as silent.

import { h, setChildren } from "./dom.js";
import { count, span } from "./format.js";
import { withKeypad } from "./keypad.js";
import { FACETS, SILENCES } from "./selection.js";

/** The bar of a selection. `update({counts, total, shown})` shows counts; `onLeave` is called for the arrow down. */
export class FilterBar {
  constructor(selection, onLeave = () => {}) {
    this.selection = selection;
    this.onLeave = onLeave;
    this.search = h("input", {
      type: "search",
      id: "search",
      class: "search",
      placeholder: "name, plate, id, IMEI, alarm…",
      "aria-label": "Search locks by name, group, plate, note, id, IMEI, gateway or alarm",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
      "data-search": true,
      on: {
        input: () => selection.set({ text: this.search.value }),
        keydown: (event) => this.#key(event),
      },
    });
    this.all = h("button", {
      type: "button",
      class: "fact",
      "data-facet": "all",
      on: { click: () => this.#clear() },
    });
    this.buttons = FACETS.map((facet) =>
      h("button", {
        type: "button",
        class: `fact fact-${facet.name}`,
        "data-facet": facet.name,
        on: { click: () => selection.toggle(facet.name) },
      }),
    );
    const urgent = FACETS.filter((facet) => facet.urgent).length;
    this.silence = h(
      "select",
      { id: "silence", on: { change: () => selection.keepSilence(Number(this.silence.value)) } },
      SILENCES.map((seconds) => h("option", { value: seconds }, span(seconds))),
    );
    this.group = h("select", { id: "group", on: { change: () => selection.set({ group: this.group.value }) } });
    this.groupField = h("label", { class: "field-inline", hidden: true }, "group ", this.group);
    this.report = h("a", { hidden: true }, "Seal report");
    this.shown = h("p", { class: "shown", role: "status" });
    this.element = h(
      "section",
      { class: "filterbar", "aria-label": "Which locks" },
      h(
        "div",
        { class: "facts", role: "group", "aria-label": "Counts; press one to see only these" },
        this.buttons.slice(0, urgent),
        this.all,
        this.buttons.slice(urgent),
      ),
      h(
        "div",
        { class: "tools" },
        withKeypad(this.search, { numeric: false }),
        this.groupField,
        this.report,
        h("label", { class: "field-inline" }, "silent after ", this.silence),
        this.shown,
      ),
    );
  }

  #clear() {
    this.selection.set({ facets: new Set(), text: "", group: "" });
  }

  #key(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      event.preventDefault();
      if (this.search.value) this.selection.set({ text: "" });
      else this.search.blur();
    } else if (event.key === "ArrowDown" && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.onLeave();
    }
  }

  /** Show counts and the state of the selection; `groups` are the numbers of locks by group. */
  update({ counts, total, shown, groups }) {
    const { selection } = this;
    if (this.search.value.trim() !== selection.text.trim()) this.search.value = selection.text;
    this.silence.value = String(selection.silence);
    this.#offer(groups, total);
    fact(this.all, total, "Locks", selection.isWhole);
    FACETS.forEach((facet, index) => {
      fact(this.buttons[index], counts[facet.name], facet.text, selection.facets.has(facet.name));
    });
    const text = selection.isWhole ? "" : `${count(shown)} of ${count(total)} shown`;
    if (this.shown.textContent !== text) this.shown.textContent = text;
  }

  /** Offer the groups that there are, and the chosen one. */
  #offer(groups, total) {
    const { group } = this.selection;
    this.groupField.hidden = groups.size === 0 && !group;
    const names = [...groups.keys()].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    if (group && !groups.has(group)) names.unshift(group);
    const key = JSON.stringify([total, names, names.map((name) => groups.get(name))]);
    if (this.group.dataset.key !== key) {
      this.group.dataset.key = key;
      const option = (value, text, number) => h("option", { value }, `${text} (${count(number)})`);
      setChildren(
        this.group,
        option("", "all", total),
        names.map((name) => option(name, name, groups.get(name) ?? 0)),
      );
    }
    this.group.value = group;
    this.report.hidden = !group;
    this.report.href = `#/report?${new URLSearchParams({ group })}`;
  }
}

function fact(button, number, text, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
  button.classList.toggle("none", number === 0);
  const shown = `${count(number)} ${text}`;
  if (button.dataset.shown === shown) return;
  button.dataset.shown = shown;
  setChildren(button, h("strong", {}, count(number)), " ", h("span", {}, text));
}
