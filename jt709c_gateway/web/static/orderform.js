// Giving an order: a form by the lock's catalogue, a confirmation that says what will happen, and what becomes of it.

import { get, sentence } from "./api.js";
import { Confirmation, NEWS } from "./confirm.js";
import { h, show } from "./dom.js";
import { paramField } from "./fields.js";
import { moment, span, words } from "./format.js";
import { hasEnded } from "./gist.js";
import { formChip, stateChip, stepItem, stepsOf } from "./timeline.js";
import { forget, unsure } from "./unsure.js";

const WAITS = [60, 300, 3600, 21600, 86400, 604800];
const USUAL_WAIT = 300;
/** The stream tells each step; this finds out what it may have missed. */
const POLL_MS = 5000;
/** Sooner it may not have been taken in yet. */
const FIRST_POLL_MS = 1500;
/** When to ask first after an order whose answer was lost. */
const UNSURE_POLLS_MS = [0, 1000, 3000];
const FOLLOWED = 5;
/** The type of peripherals that have nothing to be locked. */
const SENSOR = "jt126";

/** The form for a device. `detail()` gives what is known of it: `{device: summary, …}` or null. */
export class OrderForm {
  #orders = [];
  #fields = [];
  #followed = [];
  #timer = null;
  #closed = false;

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
    this.confirmation = new Confirmation({
      given: (order, record) => this.#given(order, record),
      unsure: (order) => this.#doubt(order),
      refused: (text) => {
        this.#say(text);
        this.button.focus();
      },
    });
    this.element = h(
      "section",
      { class: "card" },
      h("h2", {}, "Give an order"),
      this.form,
      this.following,
      this.confirmation.element,
    );
  }

  /** Fetch the catalogue, unless it is there. */
  async load() {
    this.#followed.forEach((order) => this.#poll(order));
    for (const order of unsure()) if ([order.lock, order.device].includes(this.device)) this.#doubt(order);
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
    this.#closed = true;
    clearInterval(this.#timer);
    this.#fields.forEach((field) => field.clear());
    this.confirmation.close();
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
    const body = {
      device: this.target.value || master,
      command: order.name,
      params,
      ttl: Number(this.wait.value),
    };
    const given = this.#fields
      .filter((field) => field.name in params)
      .map((field) => `${words(field.name)}: ${field.shown()}`);
    this.confirmation.ask(order, body, given, summary, master);
  }

  #given(order, record) {
    this.#fields.forEach((field) => field.clear());
    const followed = this.#follow(order);
    followed.unsure = false;
    if (record) this.#step(followed, record, null);
    else setTimeout(() => this.#poll(followed), FIRST_POLL_MS);
    this.#draw();
    this.confirmation.told(followed);
    this.choice.focus();
  }

  /** Follow an order of which it isn't known whether it arrived. */
  #doubt(order) {
    if (this.#followed.some((one) => one.id === order.id)) return;
    const followed = this.#follow(order);
    followed.unsure = true;
    followed.news = "asking";
    this.#draw();
    for (const wait of UNSURE_POLLS_MS) setTimeout(() => this.#poll(followed), wait);
  }

  /** The order among those that are followed; those in doubt stay, however many come after them. */
  #follow(order) {
    const known = this.#followed.find((one) => one.id === order.id);
    if (known) return known;
    const followed = Object.assign(order, { steps: order.steps ?? [], state: order.state ?? null });
    this.#followed = [followed, ...this.#followed].filter((one, index) => index < FOLLOWED || one.unsure);
    if (!this.#closed)
      this.#timer ??= setInterval(() => this.#followed.forEach((one) => this.#poll(one)), POLL_MS);
    return followed;
  }

  async #poll(order) {
    if (this.#closed || order.asking || hasEnded(order.state)) return;
    order.asking = true;
    try {
      const { order: record } = await get(`orders/${encodeURIComponent(order.id)}`);
      this.#step(order, record, null);
    } catch (error) {
      // Not taken in yet, or the gateway is away: the next look or the stream tells.
      if (order.unsure) {
        order.news = error.status === 404 ? "unknown" : "away";
        this.#draw();
        this.confirmation.told(order);
      }
    }
    order.asking = false;
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
    if (order.unsure) {
      order.unsure = false;
      forget(order.id);
    }
    this.#draw();
    this.confirmation.told(order);
  }

  #draw() {
    show(
      this.following,
      this.#followed.map((order) =>
        h(
          "div",
          { class: "followed", "data-order": order.id, "data-state": order.state ?? "" },
          h("h3", {}, words(order.command), " ", chip(order)),
          order.unsure ? h("p", { class: "problem" }, NEWS[order.news]) : null,
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

function chip(order) {
  if (order.state) return stateChip(order.state);
  return order.unsure ? h("span", { class: "chip chip-doubt" }, "may have been given") : "given…";
}
