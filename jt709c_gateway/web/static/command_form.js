// The command form of a lock: fields from the catalogue, a check, a confirmation, and the progress of given commands.

import { ApiError, get, post, errorText } from "./api.js";
import { CommandProgress } from "./command_progress.js";
import { Cancelling } from "./cancel.js";
import { ConditionFields } from "./condition_fields.js";
import { Confirmation } from "./confirm.js";
import { h, setChildren } from "./dom.js";
import { paramField } from "./fields.js";
import { span, words } from "./format.js";
import { pendingCommands } from "./pending_commands.js";
import { QuickUnlock } from "./quick_unlock.js";
import { formChip } from "./timeline.js";

const WAITS = [60, 300, 3600, 21600, 86400, 604800];
const USUAL_WAIT = 300;
/** The type of peripherals without a lock. */
const SENSOR = "jt126";

/** What to do about a parameter that the gateway would supply, but has not. */
const MISSING_TEXTS = {
  static_password: "The lock needs its password, and the gateway has none for it. Type the password.",
  dynamic_password:
    "The lock needs its dynamic password, and has reported none that is still valid. Type it, or have the lock report one first.",
};

/** The form of a device. `detail()` returns its details, `{device: summary, …}` or null; `rights` are the user's. */
export class CommandForm {
  #commands = [];
  #fields = [];
  /** The catalogues of the lock and its sub-locks, by id. */
  #catalogues = new Map();
  #checking = false;
  #closed = false;

  constructor(device, detail, rights) {
    this.device = device;
    this.rights = rights;
    this.detail = detail;
    this.target = h("select", { id: "command-target", on: { change: () => this.#loadCatalogue() } });
    this.targetField = h(
      "div",
      { class: "field", hidden: true },
      h("label", { for: "command-target" }, "For"),
      this.target,
    );
    this.choice = h("select", { id: "command-command", on: { change: () => this.#chosen() } });
    this.summary = h("p", { class: "hint" });
    this.params = h("div", { class: "fields-list" });
    this.wait = h(
      "select",
      { id: "command-ttl" },
      WAITS.map((seconds) =>
        h("option", { value: seconds, selected: seconds === USUAL_WAIT }, span(seconds)),
      ),
    );
    this.conditions = new ConditionFields(() => this.#summary);
    this.refusal = h("p", { class: "hint", hidden: true });
    this.problem = h("p", { id: "command-problem", class: "problem", role: "alert", hidden: true });
    this.button = h("button", { type: "submit", class: "button primary" }, "Continue…");
    this.form = h(
      "form",
      {
        class: "command-form",
        autocomplete: "off",
        novalidate: true,
        on: { submit: (event) => this.#submit(event) },
      },
      this.targetField,
      h(
        "div",
        { class: "field" },
        h("label", { for: "command-command" }, "Command"),
        this.choice,
        this.summary,
        rights.limited ? h("p", { class: "hint" }, "Your role has no other commands.") : null,
      ),
      this.params,
      h(
        "div",
        { class: "field" },
        h("label", { for: "command-ttl" }, "Wait for the lock at most"),
        this.wait,
        h(
          "p",
          { class: "hint" },
          "If it sleeps or is not connected. After that the command ends as expired, and nothing is written.",
        ),
      ),
      this.conditions.element,
      this.problem,
      this.button,
    );
    this.cancelling = new Cancelling(rights, (device) => this.#labelOf(device));
    this.progress = new CommandProgress((command) => this.#progressed(command), this.cancelling);
    this.confirmation = new Confirmation({
      given: (command, record) => this.#given(command, record),
      pending: (command) => this.progress.followPending(command),
      refused: (text) => this.#complain(text),
    });
    this.quick = new QuickUnlock({
      ask: (spec, body, given) => this.confirmation.ask(spec, body, given, this.#summary, this.#master),
      target: () => this.#master,
      wait: () => Number(this.wait.value),
    });
    this.element = h(
      "section",
      { class: "card card-command" },
      h("h2", {}, "Give a command"),
      this.quick.element,
      this.progress.element,
      this.refusal,
      this.form,
      this.confirmation.element,
      this.cancelling.element,
    );
  }

  /** Load the catalogue once, and follow commands without a response. */
  async load() {
    this.progress.poll();
    for (const command of pendingCommands()) {
      if ([command.lock, command.device].includes(this.device)) this.progress.followPending(command);
    }
    if (this.#commands.length === 0) await this.#loadCatalogue();
  }

  async #loadCatalogue() {
    const target = this.target.value || this.device;
    try {
      if (!this.#catalogues.has(target))
        this.#catalogues.set(target, this.#allowed(await get("catalogue", { device: target })));
    } catch (error) {
      this.#complain(errorText(error));
      return;
    }
    if (target === this.device) this.quick.offer(this.#catalogues.get(target));
    if (target !== (this.target.value || this.device)) return;
    this.#commands = this.#catalogues.get(target);
    const before = this.choice.value;
    const group = (label, physical) => {
      const list = this.#commands.filter((command) => Boolean(command.physical) === physical);
      const options = list.map((command) => h("option", { value: command.name }, words(command.name)));
      return options.length ? h("optgroup", { label }, options) : null;
    };
    setChildren(
      this.choice,
      h("option", { value: "" }, "choose…"),
      group("These move the lock", true),
      group("These don't", false),
    );
    if (this.#commands.some((command) => command.name === before)) this.choice.value = before;
    this.#chosen();
  }

  #allowed({ commands }) {
    return commands.filter(({ name }) => this.rights.allows(name));
  }

  /** Show in place of the form why no command may be given; "" shows the form. */
  refuse(reason) {
    this.refusal.hidden = !reason;
    if (this.refusal.textContent !== reason) this.refusal.textContent = reason;
    this.form.hidden = Boolean(reason);
    this.quick.refuse(Boolean(reason));
  }

  /** Fill the choice of the lock and its sub-locks. */
  offer(device, peripherals) {
    const locks = (peripherals ?? []).filter((one) => one.type !== SENSOR).map((one) => one.peripheral);
    const key = [device, ...locks].join();
    if (this.target.dataset.key === key) return;
    this.target.dataset.key = key;
    const before = this.target.value;
    setChildren(
      this.target,
      h("option", { value: device }, `${device} itself`),
      locks.map((id) => h("option", { value: id }, `sub-lock ${id}`)),
    );
    if (locks.includes(before)) this.target.value = before;
    this.targetField.hidden = locks.length === 0;
  }

  #labelOf(device) {
    const summary = this.detail()?.device;
    return device === summary?.device ? summary.label : undefined;
  }

  #progressed(command) {
    this.confirmation.update(command);
    this.cancelling.update(command);
  }

  /** Process a live event. */
  handleEvent(event) {
    this.progress.handleEvent(event);
  }

  /** Release all resources. */
  close() {
    this.#closed = true;
    this.progress.close();
    this.#fields.forEach((field) => field.clear());
    this.quick.clear();
    this.confirmation.close();
    this.cancelling.close();
  }

  get #summary() {
    return this.detail()?.device ?? null;
  }

  /** The lock itself, by its device id if that is known. */
  get #master() {
    return this.#summary?.device ?? this.device;
  }

  get #command() {
    return this.#commands.find((command) => command.name === this.choice.value);
  }

  /** Show an error at a field, or above the button; "" removes it. */
  #complain(text, field = null) {
    for (const { input } of this.#fields) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-errormessage");
    }
    if (field) field.element.append(this.problem);
    else this.button.before(this.problem);
    this.problem.hidden = !text;
    this.problem.textContent = text;
    if (!text) return;
    field?.input.setAttribute("aria-invalid", "true");
    field?.input.setAttribute("aria-errormessage", this.problem.id);
    (field?.input ?? this.button).focus({ preventScroll: true });
    (field?.element ?? this.problem).scrollIntoView({ block: "nearest" });
  }

  #chosen() {
    const command = this.#command;
    this.#complain("");
    this.#fields = (command?.params ?? []).map((param) => paramField(param));
    setChildren(
      this.params,
      this.#fields.map((field) => field.element),
    );
    setChildren(this.summary, command?.summary ?? "", formChip(command));
    this.button.disabled = !command;
  }

  async #submit(event) {
    event.preventDefault();
    const command = this.#command;
    if (!command || this.#checking) return;
    this.#complain("");
    const params = {};
    for (const field of this.#fields) {
      try {
        const value = field.value();
        if (value !== undefined) params[field.name] = value;
      } catch (error) {
        this.#complain(error.message, field);
        return;
      }
    }
    const [summary, master] = [this.#summary, this.#master];
    let conditions;
    try {
      conditions = this.conditions.value();
    } catch (error) {
      this.#complain(error.message);
      return;
    }
    const device = this.target.value || master;
    const body = { device, command: command.name, params, ttl: Number(this.wait.value), ...conditions };
    const given = this.#fields
      .filter((field) => field.name in params)
      .map((field) => `${words(field.name)}: ${field.shown()}`);
    if ((await this.#isRight(body)) && !this.#closed && this.#command === command)
      this.confirmation.ask(command, body, given, summary, master);
  }

  /** Ask the gateway whether a command is right and complete; show what is not. */
  async #isRight(body) {
    const field = (name) => this.#fields.find((one) => one.name === name) ?? null;
    this.#checking = true;
    this.button.textContent = "Checking…";
    try {
      const { missing } = await post("commands/check", body);
      for (const { name, from } of missing)
        this.#complain(MISSING_TEXTS[from] ?? `${words(name)} is needed.`, field(name));
      return missing.length === 0;
    } catch (error) {
      const refused = error instanceof ApiError && error.status === 400;
      const [, name = "", problem = ""] = /^params\.([^:]+): (.*)$/s.exec(error.message) ?? [];
      // A secret value is masked.
      const text = `${words(name)} ${problem.replace(/^is \*+;/, "doesn't fit:")}`;
      if (name) this.#complain(text, field(name));
      else this.#complain(refused ? error.message : errorText(error));
      return false;
    } finally {
      this.#checking = false;
      this.button.textContent = "Continue…";
    }
  }

  #given(command, record) {
    this.#fields.forEach((field) => field.clear());
    this.quick.clear();
    this.progress.accepted(command, record);
  }
}
