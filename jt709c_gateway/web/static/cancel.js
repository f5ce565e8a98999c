// Cancelling a command that has not been written to its lock: the button, the dialog, and what became of it.

import { ApiError, get, post, errorText } from "./api.js";
import { h, setChildren } from "./dom.js";
import { words } from "./format.js";
import { STATES, hasEnded } from "./event_summary.js";
import { fullName } from "./label.js";
import { newCommandId } from "./pending_commands.js";
import { stateChip } from "./timeline.js";

/** The states in which a command has not been written. */
const CANCELLABLE = ["queued", "waiting"];
const POLL_MS = 500;
/** How long the dialog waits for the gateway. */
const PATIENCE_MS = 20000;

/** The buttons of a view, and their dialog. `labelOf(device)` returns the label of a lock, if it is known. */
export class Cancelling {
  #current = null;

  constructor(rights, labelOf) {
    this.rights = rights;
    this.labelOf = labelOf;
    this.element = h("dialog", { class: "confirm", "aria-labelledby": "cancel-title" });
    this.element.addEventListener("close", () => this.#closed());
  }

  /** The button for a command; null if it can't be cancelled, or not by this user. */
  button(command) {
    if (!CANCELLABLE.includes(command.state) || !command.id || !command.device) return null;
    if (!this.rights.cancels(command, this.labelOf(command.device))) return null;
    return h(
      "button",
      {
        type: "button",
        class: "button small",
        "data-cancel": command.id,
        on: { click: () => this.#ask(command) },
      },
      "Cancel…",
      h("span", { class: "unseen" }, ` ${words(command.command)}, command ${command.id}`),
    );
  }

  /** Process a record or an event of a command: one that has been written is no longer asked about. */
  update({ id, state }) {
    const current = this.#current;
    if (!current || current.asked || current.command.id !== id || CANCELLABLE.includes(state)) return;
    this.#end(state === "cancelled" ? cancelledText() : lateText(state));
  }

  /** Close the dialog. */
  close() {
    if (this.element.open) this.element.close();
  }

  #ask(command) {
    const no = h("button", { type: "button", class: "button", on: { click: () => this.close() } }, "No, keep it");
    const yes = h(
      "button",
      { type: "button", class: "button danger", "data-confirm": true, on: { click: () => this.#send() } },
      "Yes, cancel it",
    );
    const outcome = h("div", { class: "outcome", role: "alert" });
    this.#current = { command, no, yes, outcome, asked: false, id: newCommandId() };
    const lock = fullName(command.device, this.labelOf(command.device));
    setChildren(
      this.element,
      h("h2", { id: "cancel-title" }, `Cancel ${words(command.command)} of ${lock}?`),
      h(
        "ul",
        {},
        h("li", {}, `It was given by ${command.issued_by ?? "an unnamed issuer"} and has not been written to the lock.`),
        command.peripheral ? h("li", {}, `It is for sub-lock ${command.peripheral}.`) : null,
        h("li", {}, "Cancelled, it is not written any more. If it has been written meanwhile, it stays as it is."),
      ),
      outcome,
      h("div", { class: "buttons" }, no, yes),
    );
    this.element.showModal();
    no.focus();
  }

  async #send() {
    const current = this.#current;
    const { command, id, yes, no, outcome } = current;
    current.asked = true;
    yes.disabled = true;
    no.textContent = "Close";
    setChildren(outcome, h("p", {}, "Cancelling…"));
    let parts;
    try {
      await post("commands", { device: command.device, command: "cancel", params: { id: command.id }, id });
      parts = await this.#outcome(current);
    } catch (error) {
      parts = isLost(error) ? await this.#outcome(current).catch(() => lostText(error)) : refusedText(error);
    }
    if (this.#current === current) this.#end(parts);
  }

  /** Wait for the outcome, as long as the dialog is open. */
  async #outcome({ command, id }) {
    const until = performance.now() + PATIENCE_MS;
    while (performance.now() < until && this.#current?.id === id) {
      // At first: the gateway takes a moment to accept a command.
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      const record = await recordOf(id);
      if (record && hasEnded(record.state)) {
        const target = await recordOf(command.id);
        if (target?.state === "cancelled") return cancelledText();
        return lateText(target?.state, record.reason);
      }
    }
    return lostText(new ApiError(0, ""));
  }

  #end(parts) {
    const { yes, no, outcome } = this.#current;
    setChildren(outcome, parts);
    const hadFocus = document.activeElement === yes || document.activeElement === document.body;
    yes.hidden = true;
    no.textContent = "Close";
    if (hadFocus) no.focus();
  }

  #closed() {
    const { id } = this.#current?.command ?? {};
    this.#current = null;
    this.element.replaceChildren();
    // The element that had the focus may have been drawn anew.
    if (document.activeElement && document.activeElement !== document.body) return;
    const name = CSS.escape(id ?? "");
    document.querySelector(`[data-cancel="${name}"], button[data-command="${name}"], main h1`)?.focus();
  }
}

/** The record of a command; null while it has none. */
async function recordOf(id) {
  try {
    return (await get(`commands/${encodeURIComponent(id)}`)).command;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** Whether a request may have arrived despite an error. */
function isLost(error) {
  return !(error instanceof ApiError) || error.status < 400 || error.status >= 500;
}

function cancelledText() {
  return h("p", {}, h("strong", {}, "Cancelled."), " It was not written to the lock, and will not be.");
}

/** The text about a command that could not be cancelled; `reason` is the gateway's. */
function lateText(state, reason) {
  const late = ["sent", "acknowledged", "confirmed", "unconfirmed", "uncertain", "done", "timed_out"].includes(state);
  return [
    h(
      "p",
      { class: "problem" },
      late ? "Too late: it was written to the lock before it could be cancelled." : "It was not cancelled.",
    ),
    state ? h("p", {}, "It is ", stateChip(state), `: ${STATES[state]?.text ?? ""}.`) : null,
    reason ? h("p", { class: "hint" }, `The gateway says: ${reason}`) : null,
  ];
}

function refusedText(error) {
  return [h("p", { class: "problem" }, "It was not cancelled."), h("p", {}, errorText(error))];
}

function lostText(error) {
  const said = error instanceof ApiError && error.status === 0 ? "" : errorText(error);
  return [
    h("p", { class: "problem" }, "It is not known whether it was cancelled: no answer came. Its state shows it later."),
    said ? h("p", { class: "hint" }, said) : null,
  ];
}
