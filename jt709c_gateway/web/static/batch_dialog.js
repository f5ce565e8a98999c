// The dialog for a command to many locks: a form, and one question that says how many and names the odd ones.

import { ApiError, errorText, get, post } from "./api.js";
import { effectOf, oddities } from "./batch_texts.js";
import { h, setChildren } from "./dom.js";
import { paramField } from "./fields.js";
import { count, span, words } from "./format.js";
import { newCommandId } from "./pending_commands.js";
import { addPendingBatch, forgetBody, removePendingBatch } from "./pending_batches.js";

const WAITS = [60, 300, 3600, 21600, 86400, 604800];
const USUAL_WAIT = 300;
/** A command that moves more locks than this needs their number typed. */
const TYPED_ABOVE = 10;

/** The dialog. `go` opens the view of a batch that was given. */
export class BatchDialog {
  #commands = [];
  #fields = [];
  #ids = [];
  /** The batch in question: it keeps its id when it is sent again. */
  #current = null;

  constructor({ fleet, marks, rights, go }) {
    this.fleet = fleet;
    this.marks = marks;
    this.rights = rights;
    this.go = go;
    this.content = h("div", {});
    this.element = h("dialog", { class: "confirm batch", "aria-labelledby": "batch-title" }, this.content);
    this.element.addEventListener("close", () => {
      this.#fields.forEach((field) => field.clear());
      if (this.#current && !this.#current.lost) forgetBody(this.#current.body.id);
      this.#current = null;
      this.content.replaceChildren();
    });
  }

  /** Open the form for these locks. */
  async open(ids) {
    this.#ids = [...ids].sort((one, other) => one.length - other.length || (one < other ? -1 : 1));
    this.choice = h("select", { id: "batch-command", on: { change: () => this.#chosen() } });
    this.summary = h("p", { class: "hint" });
    this.params = h("div", { class: "fields-list" });
    this.wait = h(
      "select",
      { id: "batch-ttl" },
      WAITS.map((seconds) => h("option", { value: seconds, selected: seconds === USUAL_WAIT }, span(seconds))),
    );
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.next = h("button", { type: "submit", class: "button primary", disabled: true }, "Continue…");
    const cancel = h("button", { type: "button", class: "button", on: { click: () => this.close() } }, "Cancel");
    setChildren(
      this.content,
      h("h2", { id: "batch-title" }, `A command for ${locks(ids.length)}`),
      h(
        "form",
        { class: "command-form", autocomplete: "off", novalidate: true, on: { submit: (event) => this.#submit(event) } },
        h("div", { class: "field" }, h("label", { for: "batch-command" }, "Command"), this.choice, this.summary),
        this.params,
        h("div", { class: "field" }, h("label", { for: "batch-ttl" }, "Wait for each lock at most"), this.wait),
        this.problem,
        h("div", { class: "buttons" }, cancel, this.next),
      ),
    );
    this.element.showModal();
    this.choice.focus();
    await this.#loadCatalogue();
  }

  /** Close the dialog. */
  close() {
    if (this.element.open) this.element.close();
  }

  async #loadCatalogue() {
    try {
      if (this.#commands.length === 0) {
        const { commands } = await get("catalogue");
        this.#commands = commands.filter((one) => one.forms.length && this.rights.allows(one.name));
      }
    } catch (error) {
      this.#complain(errorText(error));
      return;
    }
    const group = (label, physical) =>
      h(
        "optgroup",
        { label },
        this.#commands
          .filter((one) => Boolean(one.physical) === physical)
          .map((one) => h("option", { value: one.name }, words(one.name))),
      );
    setChildren(
      this.choice,
      h("option", { value: "" }, "choose…"),
      group("These move the locks", true),
      group("These don't", false),
    );
    this.#chosen();
  }

  get #command() {
    return this.#commands.find((one) => one.name === this.choice.value);
  }

  #chosen() {
    this.#complain("");
    this.#fields = (this.#command?.params ?? []).map((param) => paramField(param, "batch-param"));
    setChildren(
      this.params,
      this.#fields.map((field) => field.element),
    );
    this.summary.textContent = this.#command?.summary ?? "";
    this.next.disabled = !this.#command;
  }

  #complain(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
  }

  async #submit(event) {
    event.preventDefault();
    const command = this.#command;
    if (!command || this.next.disabled) return;
    const params = {};
    try {
      for (const field of this.#fields) {
        const value = field.value();
        if (value !== undefined) params[field.name] = value;
      }
    } catch (error) {
      this.#complain(error.message);
      return;
    }
    const body = { id: newCommandId(), devices: this.#ids, command: command.name, params, ttl: Number(this.wait.value) };
    this.next.disabled = true;
    this.next.textContent = "Checking…";
    try {
      const preview = await post("batches/check", body);
      if (preview.count > 0) this.#ask(body, preview);
      else this.#complain(`None of these locks would get it. ${preview.left_out[0]?.device}: ${preview.left_out[0]?.message}.`);
    } catch (error) {
      this.#complain(error instanceof ApiError && error.status === 400 ? error.message : errorText(error));
    } finally {
      this.next.disabled = false;
      this.next.textContent = "Continue…";
    }
  }

  /** Ask once: how many locks, which are left out, and which are unlike the others. */
  #ask(body, preview) {
    const no = h("button", { type: "button", class: "button", on: { click: () => this.close() } });
    const yes = h("button", {
      type: "button",
      class: `button ${preview.physical ? "danger" : "primary"}`,
      "data-confirm": true,
    });
    const outcome = h("div", { class: "outcome", role: "alert" });
    const current = { body, preview, no, yes, outcome, sending: false, lost: false, problem: "", typed: null };
    yes.addEventListener("click", () => this.#send(current));
    if (preview.physical && preview.count > TYPED_ABOVE) {
      current.typed = h("input", { id: "batch-typed", inputmode: "numeric", autocomplete: "off", on: { input: () => this.#draw() } });
    }
    const typedField =
      current.typed &&
      h("div", { class: "field" }, h("label", { for: "batch-typed" }, `Type ${preview.count}, the number of locks`), current.typed);
    setChildren(
      this.content,
      h("h2", { id: "batch-title" }, `${capital(words(body.command))} ${locks(preview.count)}?`),
      h(
        "ul",
        {},
        effectOf(preview, body.ttl).map((text) => h("li", {}, text)),
        oddities(preview, this.fleet).map((text) => h("li", { class: "odd" }, text)),
      ),
      typedField,
      outcome,
      h("div", { class: "buttons" }, no, yes),
    );
    this.#current = current;
    this.#draw();
    (current.typed ?? no).focus();
  }

  async #send(current) {
    const { body } = current;
    current.sending = true;
    this.#draw();
    addPendingBatch(body);
    try {
      const batch = await post("batches", body);
      removePendingBatch(body.id);
      this.marks.remove(body.devices);
      current.lost = true;
      this.close();
      this.go(`#/batch/${encodeURIComponent(batch.id)}`);
    } catch (error) {
      current.sending = false;
      const refused = error instanceof ApiError && error.status >= 400 && error.status < 500;
      if (refused && !current.lost) removePendingBatch(body.id);
      current.lost ||= !refused;
      current.problem = error instanceof ApiError && error.status === 0 ? "" : errorText(error);
      this.#draw();
      if (current.lost) this.#look(current);
    }
  }

  /** Look whether a batch without an answer has arrived. */
  async #look(current) {
    for (const wait of [0, 1000, 3000]) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (this.#current !== current || current.sending) return;
      try {
        await get(`batches/${encodeURIComponent(current.body.id)}`);
        removePendingBatch(current.body.id);
        this.marks.remove(current.body.devices);
        this.close();
        this.go(`#/batch/${encodeURIComponent(current.body.id)}`);
        return;
      } catch (error) {
        current.news = error.status === 404 ? "The gateway knows no such command yet." : "The gateway doesn't answer yet.";
        this.#draw();
      }
    }
  }

  #draw() {
    const current = this.#current;
    if (!current) return;
    const { no, yes, sending, lost, preview, typed } = current;
    no.textContent = sending || lost ? "Close" : "No, do nothing";
    yes.textContent = sending
      ? "Sending…"
      : lost
        ? "Send the same again"
        : `Yes, ${words(current.body.command)} ${locks(preview.count)}`;
    yes.disabled = sending || Boolean(typed && typed.value.trim() !== String(preview.count));
    const parts = lost
      ? [
          h("p", { class: "problem" }, "The answer was lost: the command may have been given."),
          h("p", {}, current.news ?? "The page asks the gateway."),
          h("p", { class: "hint" }, "Sending it again does no harm: it is the same, and each lock gets it once at most."),
        ]
      : [];
    if (current.problem) parts.push(h("p", { class: lost ? "hint" : "problem" }, current.problem));
    const text = h("div", {}, parts).textContent;
    if (current.outcome.textContent !== text) setChildren(current.outcome, parts);
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const locks = (number) => `${count(number)} ${number === 1 ? "lock" : "locks"}`;
