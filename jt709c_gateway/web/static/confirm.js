// The confirmation dialog of a command; after a lost response it shows the state of the command.

import { ApiError, post, errorText } from "./api.js";
import { conditionTexts } from "./condition_fields.js";
import { PENDING_TEXTS } from "./command_progress.js";
import { h, setChildren } from "./dom.js";
import { fullName } from "./label.js";
import { ago, dated, moment, now, place, span, stamp, words } from "./format.js";
import { STATES, provenance } from "./event_summary.js";
import { stateChip } from "./timeline.js";
import { removePending, newCommandId, addPending, pendingCommands } from "./pending_commands.js";

const FORM_WARNINGS = {
  assumed:
    "The form of this command is assumed: no public document has it for this kind of lock. The lock may refuse it, or not answer.",
  standard:
    "The form of this command is that of the national standard JT/T 808; no unit of this maker is known to obey it. The lock may refuse it, or not answer.",
};
/**
 * The dialog. It calls `on.given(command, record)` for an accepted command, with its record if known;
 * `on.pending(command)` after a lost response; `on.refused(text)` with the reason of a refusal.
 */
export class Confirmation {
  /** The current command, which keeps its id if it is sent again. */
  #current = null;

  constructor(on) {
    this.on = on;
    this.element = h("dialog", { class: "confirm", "aria-labelledby": "confirm-title" });
    this.element.addEventListener("close", () => {
      this.#current = null;
      this.element.replaceChildren();
    });
  }

  /** Open the dialog: `spec` of the catalogue, `body` of the request, `given` are the parameters as text. */
  ask(spec, body, given, summary, lock) {
    const { device, command: name } = body;
    const named = device === summary?.device ? fullName(device, summary.label) : device;
    const earlier = pendingCommands().filter((command) => command.device === device);
    const again = earlier.some((command) => command.command === name) ? " a second time" : "";
    const no = h("button", { type: "button", class: "button", on: { click: () => this.close() } });
    const yes = h("button", {
      type: "button",
      class: `button ${spec.physical ? "danger" : "primary"}`,
      "data-confirm": true,
    });
    const outcome = h("div", { class: "outcome", role: "alert" });
    const command = { id: newCommandId(), command: name, device, lock, at: null, steps: [], state: null };
    const current = {
      command,
      body,
      no,
      yes,
      outcome,
      label: `Yes, ${words(name)} ${named}${again}`,
      earlier: earlier.map((one) => ({ command: one, element: h("p", { class: "problem" }, warning(one)) })),
      sending: false,
      lost: false,
      problem: "",
    };
    yes.addEventListener("click", () => this.#send(current));
    setChildren(
      this.element,
      h("h2", { id: "confirm-title" }, `${capital(words(name))} ${named}?`),
      h(
        "div",
        { class: "earlier", role: "alert" },
        current.earlier.map((one) => one.element),
      ),
      h(
        "ul",
        {},
        effects(spec, summary, given, body).map((text) => h("li", {}, text)),
      ),
      outcome,
      h("div", { class: "buttons" }, no, yes),
    );
    this.#current = current;
    this.#draw();
    this.element.showModal();
    no.focus();
  }

  /** Update the `state` of a command, or the `news` of a query about it. */
  update(command) {
    const current = this.#current;
    if (!current) return;
    for (const one of current.earlier) {
      if (one.command.id === command.id) one.element.textContent = warning({ ...one.command, ...command });
    }
    if (current.command.id !== command.id) return;
    current.command = command;
    this.#draw();
  }

  /** Close the dialog. */
  close() {
    if (this.element.open) this.element.close();
  }

  async #send(current) {
    const { command, body } = current;
    current.sending = true;
    this.#draw();
    command.at ??= now();
    // Stored before it is sent: it may arrive even if the page is closed.
    addPending(command);
    try {
      const { command: record } = await post("commands", { ...body, id: command.id });
      removePending(command.id);
      this.#closeIfCurrent(current);
      this.on.given(command, record ?? null);
    } catch (error) {
      current.sending = false;
      if (!isLost(error) && !current.lost) {
        removePending(command.id);
        this.#closeIfCurrent(current);
        this.on.refused(errorText(error));
        return;
      }
      current.lost = true;
      current.problem = error instanceof ApiError && error.status === 0 ? "" : errorText(error);
      this.#draw();
      this.on.pending(command);
    }
  }

  #closeIfCurrent(current) {
    if (this.#current === current) this.close();
  }

  #draw() {
    const current = this.#current;
    if (!current) return;
    const { command, no, yes, sending, lost } = current;
    const known = lost && command.state !== null;
    no.textContent = sending || lost ? "Close" : "No, do nothing";
    yes.textContent = sending ? "Sending…" : lost ? "Send the same command again" : current.label;
    yes.disabled = sending;
    yes.hidden = known;
    const parts = known ? knownStateText(command) : lost ? lostResponseText(current) : [];
    const text = h("div", {}, parts).textContent;
    // Announced once by screen readers.
    if (current.outcome.textContent !== text) setChildren(current.outcome, parts);
  }
}

/** Whether a command may have arrived despite an error. */
function isLost(error) {
  return !(error instanceof ApiError) || error.status < 400 || error.status >= 500;
}

function knownStateText({ state }) {
  return [
    h("p", {}, "The answer was lost, but the command has been given. It is ", stateChip(state), "."),
    h("p", { class: "hint" }, STATES[state]?.text ?? ""),
  ];
}

function lostResponseText({ command, problem }) {
  return [
    h("p", { class: "problem" }, "The answer was lost: the command may have been given."),
    problem ? h("p", { class: "hint" }, problem) : null,
    h("p", {}, PENDING_TEXTS[command.news] ?? PENDING_TEXTS.asking),
    h(
      "p",
      { class: "hint" },
      `Sending it again does no harm: it is the same command, ${command.id}, and the lock gets it once at most.`,
    ),
  ];
}

/** The text about an earlier command without a response. */
function warning(command) {
  const what = `${words(command.command)} of ${stamp(command.at)}`;
  if (command.state || command.pending === false)
    return `The ${what} has been given. ${command.state ? `It is ${words(command.state)}.` : ""}`;
  const news = PENDING_TEXTS[command.news] ?? "";
  return `The ${what} may have been given: there was no answer to it. ${news} A command that you give now is given in addition.`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Describe the effects of a command. */
function effects(command, summary, given, { device, ttl: wait, ...body }) {
  const conditions = conditionTexts(body);
  const opens = /unlock|unseal/.test(command.name);
  return [
    lockDescription(summary, device),
    given.length ? `With ${given.join(", ")}.` : null,
    command.physical
      ? `This physically ${opens ? "opens" : "moves"} the lock. It is written to the lock at most once; if it is unknown whether the lock got it, it ends as uncertain and is not written again.`
      : "This doesn't move the lock. It may be written again if the lock doesn't answer.",
    FORM_WARNINGS[provenance(command)],
    summary?.online
      ? `The lock is connected, so the command is written at once${conditions.length ? " if the following holds" : ""}. If the lock falls asleep before, the command waits for it, at most ${span(wait)}.`
      : `The lock is not connected. The command waits for it to connect, at most ${span(wait)}; then it ends as expired.`,
    conditions,
    "The history of the lock keeps who gave it.",
  ]
    .flat()
    .filter(Boolean);
}

function lockDescription(summary, device) {
  if (!summary) return `Lock ${device}, of which nothing is known at present.`;
  const where = place(summary.latitude, summary.longitude);
  const seen = moment(summary.seen);
  const lock = fullName(summary.device, summary.label);
  const named = device === summary.device ? `Lock ${lock}` : `Sub-lock ${device} behind lock ${lock}`;
  const parts = [
    `${named}${summary.imei ? ` (IMEI ${summary.imei})` : ""}, ${summary.lock_state ?? "state unknown"}`,
    seen ? `last seen ${ago(seen)}, ${dated(seen)}` : "never seen",
    where
      ? `at ${where}${summary.position_time && summary.position_time !== summary.seen ? ` (position ${ago(moment(summary.position_time))})` : ""}`
      : "place unknown",
  ];
  return `${parts.join(", ")}.`;
}
