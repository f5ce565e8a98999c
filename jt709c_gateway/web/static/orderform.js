// Giving an order: a form by the lock's catalogue, a confirmation that says what will happen, and what becomes of it.

import { get, post, sentence } from "./api.js";
import { h, show } from "./dom.js";
import { paramField } from "./fields.js";
import { ago, exact, moment, place, span, words } from "./format.js";
import { hasEnded, provenance } from "./gist.js";
import { formChip, stateChip, stepItem, stepsOf } from "./timeline.js";

const WAITS = [60, 300, 3600, 21600, 86400, 604800];
const FORM_WARNINGS = {
  assumed:
    "The form of this order is assumed: no public document has it for this kind of lock. The lock may refuse it, or not answer.",
  standard:
    "The form of this order is that of the national standard JT/T 808; no unit of this maker is known to obey it. The lock may refuse it, or not answer.",
};
const USUAL_WAIT = 300;
/** The stream tells each step; this finds out what it may have missed. */
const POLL_MS = 5000;
/** Sooner it may not have been taken in yet. */
const FIRST_POLL_MS = 1500;
const FOLLOWED = 5;
/** The type of peripherals that have nothing to be locked. */
const SENSOR = "jt126";

/** The form for a device. `detail()` gives what is known of it: `{device: summary, …}` or null. */
export class OrderForm {
  #orders = [];
  #fields = [];
  #followed = [];
  #timer = null;

  constructor(device, detail) {
    this.device = device;
    this.detail = detail;
    this.target = h("select", { id: "order-target" });
    this.targetField = h(
      "div",
      { class: "field", hidden: true },
      h("label", { for: "order-target" }, "For"),
      this.target,
    );
    this.choice = h("select", { id: "order-command", on: { change: () => this.#chosen() } });
    this.summary = h("p", { class: "hint" });
    this.params = h("div", { class: "fields-list" });
    this.wait = h(
      "select",
      { id: "order-ttl" },
      WAITS.map((seconds) =>
        h("option", { value: seconds, selected: seconds === USUAL_WAIT }, span(seconds)),
      ),
    );
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.button = h("button", { type: "submit", class: "button primary" }, "Go on…");
    this.form = h(
      "form",
      {
        class: "order-form",
        autocomplete: "off",
        novalidate: true,
        on: { submit: (event) => this.#submit(event) },
      },
      this.targetField,
      h("div", { class: "field" }, h("label", { for: "order-command" }, "Order"), this.choice, this.summary),
      this.params,
      h(
        "div",
        { class: "field" },
        h("label", { for: "order-ttl" }, "Wait for the lock at most"),
        this.wait,
        h(
          "p",
          { class: "hint" },
          "If it sleeps or is away. After that the order ends as expired, and nothing is written.",
        ),
      ),
      this.problem,
      this.button,
    );
    this.following = h("div", { class: "following", "aria-live": "polite" });
    this.dialog = h("dialog", { class: "confirm", "aria-labelledby": "confirm-title" });
    this.dialog.addEventListener("close", () => this.dialog.replaceChildren());
    this.element = h(
      "section",
      { class: "card" },
      h("h2", {}, "Give an order"),
      this.form,
      this.following,
      this.dialog,
    );
  }

  /** Fetch the catalogue, unless it is there. */
  async load() {
    this.#followed.forEach((order) => this.#poll(order));
    if (this.#orders.length) return;
    try {
      const { orders } = await get("catalogue", { device: this.device });
      this.#orders = orders;
      const group = (label, list) =>
        list.length &&
        h(
          "optgroup",
          { label },
          list.map((order) => h("option", { value: order.name }, words(order.name))),
        );
      show(
        this.choice,
        h("option", { value: "" }, "choose…"),
        group(
          "These move the lock",
          orders.filter((order) => order.physical),
        ) || null,
        group(
          "These don't",
          orders.filter((order) => !order.physical),
        ) || null,
      );
      this.#say("");
    } catch (error) {
      this.#say(sentence(error));
    }
    this.#chosen();
  }

  /** Offer the lock itself, and the locks behind it. */
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

  /** Take in a live event. */
  heard(event) {
    if (event.kind !== "command") return;
    const order = this.#followed.find((one) => one.id === event.data?.id);
    if (order) this.#step(order, event.data, moment(event.received_at));
  }

  /** Leave nothing behind. */
  close() {
    clearInterval(this.#timer);
    this.#fields.forEach((field) => field.clear());
    if (this.dialog.open) this.dialog.close();
  }

  get #order() {
    return this.#orders.find((order) => order.name === this.choice.value);
  }

  #say(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
  }

  #chosen() {
    const order = this.#order;
    this.#fields = (order?.params ?? []).map(paramField);
    show(
      this.params,
      this.#fields.map((field) => field.element),
    );
    show(
      this.summary,
      order?.summary ?? "",
      formChip(order),
    );
    this.button.disabled = !order;
    this.#say("");
  }

  #submit(event) {
    event.preventDefault();
    const order = this.#order;
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
    this.#confirm(order, params);
  }

  #confirm(order, params) {
    const summary = this.detail()?.device ?? null;
    const master = summary?.device ?? this.device;
    const device = this.target.value || master;
    const wait = Number(this.wait.value);
    const given = this.#fields
      .filter((field) => field.name in params)
      .map((field) => `${words(field.name)}: ${field.shown()}`);
    const no = h(
      "button",
      { type: "button", class: "button", on: { click: () => this.dialog.close() } },
      "No, do nothing",
    );
    const yes = h(
      "button",
      { type: "button", class: `button ${order.physical ? "danger" : "primary"}`, "data-confirm": true },
      `Yes, ${words(order.name)} ${device}`,
    );
    yes.addEventListener("click", () => {
      yes.disabled = true;
      this.#send({ device, command: order.name, params, ttl: wait });
    });
    show(
      this.dialog,
      h("h2", { id: "confirm-title" }, `${capital(words(order.name))} ${device}?`),
      h(
        "ul",
        {},
        consequences(order, summary, device, given, wait).map((text) => h("li", {}, text)),
      ),
      h("div", { class: "buttons" }, no, yes),
    );
    this.dialog.showModal();
    no.focus();
  }

  async #send(order) {
    try {
      const { id } = await post("orders", order);
      this.#fields.forEach((field) => field.clear());
      this.#follow({ id, command: order.command, steps: [], state: null });
    } catch (error) {
      this.#say(sentence(error));
    }
    this.dialog.close();
    (this.problem.hidden ? this.choice : this.button).focus();
  }

  #follow(order) {
    this.#followed = [order, ...this.#followed].slice(0, FOLLOWED);
    this.#draw();
    setTimeout(() => this.#poll(order), FIRST_POLL_MS);
    this.#timer ??= setInterval(() => this.#followed.forEach((one) => this.#poll(one)), POLL_MS);
  }

  async #poll(order) {
    if (hasEnded(order.state)) return;
    try {
      const { order: record } = await get(`orders/${encodeURIComponent(order.id)}`);
      this.#step(order, record, null);
    } catch {
      // Not taken in yet, or the gateway is away: the next look or the stream tells.
    }
  }

  /** Take in a record, of an event at `at` or as it stands; it also tells steps that were not heard of. */
  #step(order, record, at) {
    for (const step of stepsOf(record)) {
      const known = order.steps.find((one) => one.data.state === step.data.state);
      if (!known) order.steps.push(step.data === record && at ? { ...step, at } : step);
    }
    order.steps.sort((a, b) => a.at - b.at);
    // A record that was read earlier may come later; an end stays one, unless evidence comes after it.
    if (!hasEnded(order.state) || hasEnded(record.state)) order.state = record.state;
    this.#draw();
  }

  #draw() {
    show(
      this.following,
      this.#followed.map((order) =>
        h(
          "div",
          { class: "followed", "data-order": order.id, "data-state": order.state ?? "" },
          h("h3", {}, words(order.command), " ", order.state ? stateChip(order.state) : "given…"),
          h(
            "p",
            { class: "hint" },
            "order ",
            h("a", { href: `#/orders/${encodeURIComponent(order.id)}` }, order.id),
          ),
          h(
            "ol",
            { class: "steps" },
            order.steps.map((step) => stepItem(step, order.steps[0].at)),
          ),
        ),
      ),
    );
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What giving this order means, in sentences. */
function consequences(order, summary, device, given, wait) {
  const opens = /unlock|unseal/.test(order.name);
  return [
    whereabouts(summary, device),
    given.length ? `With ${given.join(", ")}.` : null,
    order.physical
      ? `This physically ${opens ? "opens" : "moves"} the lock. It is written to the lock at most once; when it can't be known whether the lock got it, it ends as uncertain and nothing is written again.`
      : "This doesn't move the lock. It may be written again when the lock doesn't answer.",
    FORM_WARNINGS[provenance(order)],
    summary?.online
      ? `The lock is connected, so it is written at once. Should it fall asleep before that, the order waits for it, at most ${span(wait)}.`
      : `The lock is not connected. The order waits for it to come, at most ${span(wait)}; then it ends as expired.`,
    "Who gave it is kept in the lock's history.",
  ].filter(Boolean);
}

function whereabouts(summary, device) {
  if (!summary) return `Lock ${device}, of which nothing is known just now.`;
  const where = place(summary.latitude, summary.longitude);
  const seen = moment(summary.seen);
  const named =
    device === summary.device ? `Lock ${device}` : `Sub-lock ${device} behind lock ${summary.device}`;
  const parts = [
    `${named}${summary.imei ? ` (IMEI ${summary.imei})` : ""}, ${summary.lock_state ?? "state unknown"}`,
    seen ? `last seen ${ago(seen)}, ${exact(seen)}` : "never seen",
    where
      ? `at ${where}${summary.position_time && summary.position_time !== summary.seen ? ` (position ${ago(moment(summary.position_time))})` : ""}`
      : "place unknown",
  ];
  return `${parts.join(", ")}.`;
}
