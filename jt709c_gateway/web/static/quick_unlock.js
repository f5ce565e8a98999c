// The large Unlock button of a lock's page. It asks for a password only when the gateway has none.

import { ApiError, post, errorText } from "./api.js";
import { h, setChildren } from "./dom.js";
import { paramField } from "./fields.js";
import { words } from "./format.js";

const NAME = "unlock";

/**
 * The button of a lock. `ask(spec, body, given)` opens the confirmation; `target()` returns the id of the lock, `wait()`
 * the seconds for which the command may wait.
 */
export class QuickUnlock {
  #spec = null;
  #fields = [];
  #checking = false;
  #refused = false;

  constructor({ ask, target, wait }) {
    Object.assign(this, { ask, target, wait });
    this.params = h("div", { class: "fields-list" });
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.button = h("button", { type: "submit", class: "button danger large", "data-unlock": true }, "Unlock");
    this.element = h(
      "form",
      {
        class: "quick-unlock",
        autocomplete: "off",
        novalidate: true,
        hidden: true,
        "aria-label": "Unlock this lock",
        on: { submit: (event) => this.#submit(event) },
      },
      this.params,
      this.problem,
      this.button,
    );
  }

  /** Offer the command if it is in the catalogue of the lock. */
  offer(commands) {
    this.#spec = commands.find(({ name }) => name === NAME) ?? null;
    this.#show();
  }

  /** Hide it while the user may give no commands to this lock. */
  refuse(refused) {
    this.#refused = refused;
    this.#show();
  }

  #show() {
    this.element.hidden = this.#refused || this.#spec === null;
  }

  /** Forget what was typed. */
  clear() {
    this.#fields = [];
    setChildren(this.params);
    this.#complain("");
  }

  async #submit(event) {
    event.preventDefault();
    if (this.#checking || !this.#spec) return;
    this.#complain("");
    const params = {};
    for (const field of this.#fields) {
      const value = field.value();
      if (value !== undefined) params[field.name] = value;
    }
    const body = { device: this.target(), command: NAME, params, ttl: this.wait() };
    this.#checking = true;
    try {
      const { missing } = await post("commands/check", body);
      if (missing.length) this.#need(missing.map(({ name }) => name));
      else this.ask(this.#spec, body, this.#fields.map((field) => `${words(field.name)}: ${field.shown()}`));
    } catch (error) {
      const refused = error instanceof ApiError && error.status === 400;
      this.#complain(refused ? error.message.replace(/^params\.([^:]+):/, "$1") : errorText(error));
    } finally {
      this.#checking = false;
    }
  }

  /** Show fields for these parameters, and the focus in the first one. */
  #need(names) {
    const shown = this.#fields.map(({ name }) => name);
    this.#fields.push(
      ...this.#spec.params
        .filter(({ name }) => names.includes(name) && !shown.includes(name))
        .map((param) => paramField(param, "quick")),
    );
    setChildren(
      this.params,
      this.#fields.map(({ element }) => element),
    );
    this.#complain(`The gateway has no ${names.map(words).join(", ")} for this lock. Type it and press Unlock again.`);
    this.#fields[0]?.input.focus();
  }

  #complain(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
  }
}
