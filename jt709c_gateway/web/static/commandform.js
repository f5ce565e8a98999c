// The command form of a lock: fields from its catalogue, a confirmation, and the progress of given commands.

import { get, sentence } from "./api.js";
import { Confirmation, NEWS } from "./confirm.js";
import { h, show } from "./dom.js";
import { paramField } from "./fields.js";
import { moment, span, words } from "./format.js";
import { hasEnded } from "./event_summary.js";
import { formChip, stateChip, stepItem, stepsOf } from "./timeline.js";
import { removePending, pendingCommands } from "./pending_commands.js";

const WAITS = [60, 300, 3600, 21600, 86400, 604800];
const USUAL_WAIT = 300;
/** Interval of queries for steps that the stream may have missed. */
const POLL_MS = 5000;
/** Delay of the first query, since intake takes a moment. */
const FIRST_POLL_MS = 1500;
/** Delay of the first query after a lost response. */
const UNSURE_POLLS_MS = [0, 1000, 3000];
const FOLLOWED = 5;
/** The type of peripherals without a lock. */
const SENSOR = "jt126";

/** The form of a device. `detail()` returns its details: `{device: summary, …}` or null. */
export class CommandForm {
  #commands = [];
  #fields = [];
  #followed = [];
  #timer = null;
  #closed = false;

  constructor(device, detail) {
    this.device = device;
    this.detail = detail;
    this.target = h("select", { id: "command-target" });
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
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.button = h("button", { type: "submit", class: "button primary" }, "Go on…");
    this.form = h(
      "form",
      {
        class: "command-form",
        autocomplete: "off",
        novalidate: true,
        on: { submit: (event) => this.#submit(event) },
      },
      this.targetField,
      h("div", { class: "field" }, h("label", { for: "command-command" }, "Command"), this.choice, this.summary),
      this.params,
      h(
        "div",
        { class: "field" },
        h("label", { for: "command-ttl" }, "Wait for the lock at most"),
        this.wait,
        h(
          "p",
          { class: "hint" },
          "If it sleeps or is away. After that the command ends as expired, and nothing is written.",
        ),
      ),
      this.problem,
      this.button,
    );
    this.following = h("div", { class: "following", "aria-live": "polite" });
    this.confirmation = new Confirmation({
      given: (command, record) => this.#given(command, record),
      pending: (command) => this.#followPending(command),
      refused: (text) => {
        this.#say(text);
        this.button.focus();
      },
    });
    this.element = h(
      "section",
      { class: "card" },
      h("h2", {}, "Give a command"),
      this.form,
      this.following,
      this.confirmation.element,
    );
  }

  /** Load the catalogue once. */
  async load() {
    this.#followed.forEach((command) => this.#poll(command));
    for (const command of pendingCommands()) if ([command.lock, command.device].includes(this.device)) this.#followPending(command);
    if (this.#commands.length) return;
    try {
      const { commands } = await get("catalogue", { device: this.device });
      this.#commands = commands;
      const group = (label, list) =>
        list.length &&
        h(
          "optgroup",
          { label },
          list.map((command) => h("option", { value: command.name }, words(command.name))),
        );
      show(
        this.choice,
        h("option", { value: "" }, "choose…"),
        group(
          "These move the lock",
          commands.filter((command) => command.physical),
        ) || null,
        group(
          "These don't",
          commands.filter((command) => !command.physical),
        ) || null,
      );
      this.#say("");
    } catch (error) {
      this.#say(sentence(error));
    }
    this.#chosen();
  }

  /** Fill the choice of the lock and its sub-locks. */
  offer(device, peripherals) {
    const locks = (peripherals ?? []).filter((one) => one.type !== SENSOR).map((one) => one.peripheral);
    const key = [device, ...locks].join();
    if (this.target.dataset.key === key) return;
    this.target.dataset.key = key;
    const before = this.target.value;
    show(
      this.target,
      h("option", { value: device }, `${device} itself`),
      locks.map((id) => h("option", { value: id }, `sub-lock ${id}`)),
    );
    if (locks.includes(before)) this.target.value = before;
    this.targetField.hidden = locks.length === 0;
  }

  /** Process a live event. */
  heard(event) {
    if (event.kind !== "command") return;
    const command = this.#followed.find((one) => one.id === event.data?.id);
    if (command) this.#step(command, event.data, moment(event.received_at));
  }

  /** Release all resources. */
  close() {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#fields.forEach((field) => field.clear());
    this.confirmation.close();
  }

  get #command() {
    return this.#commands.find((command) => command.name === this.choice.value);
  }

  #say(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
  }

  #chosen() {
    const command = this.#command;
    this.#fields = (command?.params ?? []).map(paramField);
    show(
      this.params,
      this.#fields.map((field) => field.element),
    );
    show(
      this.summary,
      command?.summary ?? "",
      formChip(command),
    );
    this.button.disabled = !command;
    this.#say("");
  }

  #submit(event) {
    event.preventDefault();
    const command = this.#command;
    const params = {};
    for (const field of this.#fields) {
      try {
        const value = field.value();
        if (value !== undefined) params[field.name] = value;
      } catch (error) {
        this.#say(error.message);
        field.input.focus();
        return;
      }
    }
    this.#say("");
    this.#confirm(command, params);
  }

  #confirm(command, params) {
    const summary = this.detail()?.device ?? null;
    const master = summary?.device ?? this.device;
    const body = {
      device: this.target.value || master,
      command: command.name,
      params,
      ttl: Number(this.wait.value),
    };
    const given = this.#fields
      .filter((field) => field.name in params)
      .map((field) => `${words(field.name)}: ${field.shown()}`);
    this.confirmation.ask(command, body, given, summary, master);
  }

  #given(command, record) {
    this.#fields.forEach((field) => field.clear());
    const followed = this.#follow(command);
    followed.pending = false;
    if (record) this.#step(followed, record, null);
    else setTimeout(() => this.#poll(followed), FIRST_POLL_MS);
    this.#draw();
    this.confirmation.told(followed);
    this.choice.focus();
  }

  /** Follow a command without a response. */
  #followPending(command) {
    if (this.#followed.some((one) => one.id === command.id)) return;
    const followed = this.#follow(command);
    followed.pending = true;
    followed.news = "asking";
    this.#draw();
    for (const wait of UNSURE_POLLS_MS) setTimeout(() => this.#poll(followed), wait);
  }

  /** Follow a command; pending ones are never dropped. */
  #follow(command) {
    const known = this.#followed.find((one) => one.id === command.id);
    if (known) return known;
    const followed = Object.assign(command, { steps: command.steps ?? [], state: command.state ?? null });
    this.#followed = [followed, ...this.#followed].filter((one, index) => index < FOLLOWED || one.pending);
    if (!this.#closed)
      this.#timer ??= setInterval(() => this.#followed.forEach((one) => this.#poll(one)), POLL_MS);
    return followed;
  }

  async #poll(command) {
    if (this.#closed || command.asking || hasEnded(command.state)) return;
    command.asking = true;
    try {
      const { command: record } = await get(`commands/${encodeURIComponent(command.id)}`);
      this.#step(command, record, null);
    } catch (error) {
      // Not accepted yet, or the gateway is unavailable: the next query or the stream will tell.
      if (command.pending) {
        command.news = error.status === 404 ? "unknown" : "away";
        this.#draw();
        this.confirmation.told(command);
      }
    }
    command.asking = false;
  }

  /** Process a record, of an event at `at` or of a query; it also has missed steps. */
  #step(command, record, at) {
    for (const step of stepsOf(record)) {
      const known = command.steps.find((one) => one.data.state === step.data.state);
      if (!known) command.steps.push(step.data === record && at ? { ...step, at } : step);
    }
    command.steps.sort((a, b) => a.at - b.at);
    // Records may arrive out of order; a final state only changes by later evidence.
    if (!hasEnded(command.state) || hasEnded(record.state)) command.state = record.state;
    if (command.pending) {
      command.pending = false;
      removePending(command.id);
    }
    this.#draw();
    this.confirmation.told(command);
  }

  #draw() {
    show(
      this.following,
      this.#followed.map((command) =>
        h(
          "div",
          { class: "followed", "data-command": command.id, "data-state": command.state ?? "" },
          h("h3", {}, words(command.command), " ", chip(command)),
          command.pending ? h("p", { class: "problem" }, NEWS[command.news]) : null,
          h(
            "p",
            { class: "hint" },
            "command ",
            h("a", { href: `#/commands/${encodeURIComponent(command.id)}` }, command.id),
          ),
          h(
            "ol",
            { class: "steps" },
            command.steps.map((step) => stepItem(step, command.steps[0].at)),
          ),
        ),
      ),
    );
  }
}

function chip(command) {
  if (command.state) return stateChip(command.state);
  return command.pending ? h("span", { class: "chip chip-doubt" }, "may have been given") : "given…";
}
