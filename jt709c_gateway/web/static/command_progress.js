// The progress of commands given on this page: an item for each, which is updated in place.

import { get } from "./api.js";
import { h, setChildren } from "./dom.js";
import { moment, words } from "./format.js";
import { hasEnded } from "./event_summary.js";
import { removePending } from "./pending_commands.js";
import { stateChip, stepItem, stepsOf } from "./timeline.js";

/** Interval of queries for steps that the stream may have missed. */
const POLL_MS = 5000;
/** Delay of the first query, since intake takes a moment. */
const FIRST_POLL_MS = 1500;
/** Delays of the first queries after a lost response. */
const PENDING_POLLS_MS = [0, 1000, 3000];
const MAX_FOLLOWED = 5;
/** Results of queries about a command without a response. */
export const PENDING_TEXTS = {
  asking: "The page asks the gateway for its state.",
  away: "The gateway doesn't answer yet; the page keeps asking.",
  unknown: "The gateway answers, and knows no such command yet: most likely it was not given.",
};

/** The followed commands, newest first. `changed(command)` is called when the state of one is known better, `cancelling` makes the buttons that cancel one. */
export class CommandProgress {
  #commands = [];
  #items = new Map();
  #timer = null;
  #closed = false;

  constructor(changed, cancelling) {
    this.changed = changed;
    this.cancelling = cancelling;
    this.element = h("div", { class: "following" });
  }

  /** Follow an accepted command, and move the focus to it; `record` is its record if known. */
  accepted(command, record) {
    const followed = this.#follow(command);
    followed.pending = false;
    if (record) this.#update(followed, record, null);
    else setTimeout(() => this.#poll(followed), FIRST_POLL_MS);
    this.#draw();
    this.changed(followed);
    const { element } = this.#items.get(followed.id);
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
  }

  /** Follow a command without a response. */
  followPending(command) {
    if (this.#commands.some((one) => one.id === command.id)) return;
    const followed = this.#follow(command);
    followed.pending = true;
    followed.news = "asking";
    this.#draw();
    for (const wait of PENDING_POLLS_MS) setTimeout(() => this.#poll(followed), wait);
  }

  /** Process a live event. */
  handleEvent(event) {
    if (event.kind !== "command") return;
    const command = this.#commands.find((one) => one.id === event.data?.id);
    if (command) this.#update(command, event.data, moment(event.received_at));
  }

  /** Query all commands. */
  poll() {
    for (const command of this.#commands) this.#poll(command);
  }

  /** Release all resources. */
  close() {
    this.#closed = true;
    clearInterval(this.#timer);
  }

  /** Pending commands are never dropped. */
  #follow(command) {
    const known = this.#commands.find((one) => one.id === command.id);
    if (known) return known;
    const followed = Object.assign(command, { steps: command.steps ?? [], state: command.state ?? null });
    this.#commands = [followed, ...this.#commands].filter((one, index) => index < MAX_FOLLOWED || one.pending);
    if (!this.#closed) this.#timer ??= setInterval(() => this.poll(), POLL_MS);
    return followed;
  }

  async #poll(command) {
    if (this.#closed || command.asking || hasEnded(command.state)) return;
    command.asking = true;
    try {
      const { command: record } = await get(`commands/${encodeURIComponent(command.id)}`);
      this.#update(command, record, null);
    } catch (error) {
      // Not accepted yet, or the gateway is unavailable: the next query or the stream will tell.
      if (command.pending) {
        command.news = error.status === 404 ? "unknown" : "away";
        this.#draw();
        this.changed(command);
      }
    }
    command.asking = false;
  }

  /** Process a record, of an event at `at` or of a query; it also has missed steps. */
  #update(command, record, at) {
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
    this.changed(command);
  }

  #draw() {
    const items = this.#commands.map((command) => {
      const item = this.#items.get(command.id) ?? new ProgressItem(command, this.cancelling);
      item.draw(command);
      return [command.id, item];
    });
    this.#items = new Map(items);
    const elements = items.map(([, item]) => item.element);
    for (const old of [...this.element.children]) if (!elements.includes(old)) old.remove();
    // Elements that stay are not moved, since a moved one loses the focus.
    elements.forEach((element, index) => {
      if (this.element.children[index] !== element)
        this.element.insertBefore(element, this.element.children[index] ?? null);
    });
  }
}

/** The item of a command. Screen readers announce each new step, and what is known of a pending command. */
class ProgressItem {
  #steps = new Map();

  constructor({ id, command, device }, cancelling) {
    this.cancelling = cancelling;
    this.chip = h("span", {});
    this.news = h("p", { class: "problem", role: "status", hidden: true });
    this.list = h("ol", { class: "steps" });
    this.cancel = h("p", { hidden: true });
    const title = `${words(command)} ${device ?? ""}`.trim();
    this.element = h(
      "div",
      { class: "followed", role: "group", "aria-label": `Progress of ${title}`, tabindex: -1, "data-command": id },
      h("h3", {}, title, " ", this.chip),
      this.news,
      h("div", { "aria-live": "polite" }, this.list),
      this.cancel,
      h("p", { class: "hint" }, "command ", h("a", { href: `#/commands/${encodeURIComponent(id)}` }, id)),
    );
  }

  draw(command) {
    const news = command.pending ? PENDING_TEXTS[command.news] : "";
    this.element.dataset.state = command.state ?? "";
    this.news.hidden = !news;
    if (this.news.textContent !== news) this.news.textContent = news;
    setChildren(this.chip, chip(command));
    this.#drawCancel(command);
    const before = this.#steps.size;
    for (const step of command.steps) {
      if (!this.#steps.has(step)) this.#steps.set(step, stepItem(step, command.steps[0].at));
    }
    command.steps.forEach((step, index) => {
      const item = this.#steps.get(step);
      if (this.list.children[index] !== item)
        this.list.insertBefore(item, this.list.children[index] ?? null);
    });
    if (this.#steps.size > before && this.element.contains(document.activeElement))
      this.element.scrollIntoView({ block: "nearest" });
  }

  #drawCancel(command) {
    const button = this.cancelling.button({ ...command, issued_by: "you" });
    if (Boolean(button) !== this.cancel.hidden) return;
    setChildren(this.cancel, button);
    this.cancel.hidden = !button;
  }
}

function chip(command) {
  if (command.state) return stateChip(command.state);
  return command.pending ? h("span", { class: "chip chip-doubt" }, "may have been given") : "given…";
}
