// The form of a lock's label: name, group, plate and note.

import { ApiError, put, remove, errorText } from "./api.js";
import { h } from "./dom.js";

const FIELDS = [
  { name: "name", text: "Name", most: 64 },
  { name: "group", text: "Group", most: 64 },
  { name: "plate", text: "Plate", most: 64 },
  { name: "note", text: "Note", most: 500 },
];

/**
 * A button, and the form that it opens. `device()` returns the id of the lock, `present()` its label and the groups to
 * offer, and `saved(label)` is called after a change.
 */
export class LabelForm {
  constructor(device, present, saved) {
    this.device = device;
    this.present = present;
    this.saved = saved;
    this.button = h(
      "button",
      {
        type: "button",
        class: "button small",
        "aria-expanded": "false",
        "aria-controls": "label-form",
        on: { click: () => (this.form.hidden ? this.open() : this.close()) },
      },
      "Name…",
    );
    this.inputs = FIELDS.map(({ name, most }) =>
      h("input", { id: `label-${name}`, maxlength: most, autocomplete: "off", "data-field": name }),
    );
    this.groups = h("datalist", { id: "label-groups" });
    this.inputs[1].setAttribute("list", this.groups.id);
    this.problem = h("p", { id: "label-problem", class: "problem", role: "alert", hidden: true });
    this.submit = h("button", { type: "submit", class: "button primary" }, "Save");
    this.form = h(
      "form",
      {
        id: "label-form",
        class: "card label-form",
        hidden: true,
        "aria-label": "Name of this lock",
        on: {
          submit: (event) => this.#save(event),
          keydown: (event) => this.#key(event),
        },
      },
      FIELDS.map(({ name, text }, at) =>
        h("div", { class: "field" }, h("label", { for: `label-${name}` }, text), this.inputs[at]),
      ),
      this.groups,
      this.problem,
      h(
        "div",
        { class: "buttons" },
        this.submit,
        h("button", { type: "button", class: "button", on: { click: () => this.close() } }, "Close"),
      ),
    );
  }

  /** Show the form with the present label. */
  open() {
    const { label = {}, groups } = this.present();
    FIELDS.forEach(({ name }, at) => (this.inputs[at].value = label[name] ?? ""));
    this.groups.replaceChildren(...groups.map((value) => h("option", { value })));
    this.#complain("");
    this.#show(true);
    this.inputs[0].focus();
  }

  /** Hide the form. */
  close() {
    if (this.form.hidden) return;
    this.#show(false);
    this.button.focus();
  }

  #show(shown) {
    this.form.hidden = !shown;
    this.button.setAttribute("aria-expanded", String(shown));
  }

  #key(event) {
    if (event.key !== "Escape") return;
    // Elsewhere on this page, Escape goes back to the fleet.
    event.stopPropagation();
    event.preventDefault();
    this.close();
  }

  async #save(event) {
    event.preventDefault();
    const given = this.inputs.map((input) => [input.dataset.field, input.value.trim()]);
    const label = Object.fromEntries(given.filter(([, value]) => value));
    const path = `devices/${encodeURIComponent(this.device())}/label`;
    this.submit.disabled = true;
    try {
      const found = Object.keys(label).length ? await put(path, label) : await remove(path);
      this.saved(found.label);
      this.close();
    } catch (error) {
      const refused = error instanceof ApiError && error.status === 400;
      this.#complain(refused ? error.message : errorText(error), error.field);
    } finally {
      this.submit.disabled = false;
    }
  }

  #complain(text, field = null) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
    for (const input of this.inputs) {
      const wrong = text !== "" && input.dataset.field === field;
      input.toggleAttribute("aria-invalid", wrong);
      if (wrong) input.focus();
    }
  }
}
