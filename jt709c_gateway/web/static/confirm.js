// The confirmation dialog of a command; after a lost response it shows the state of the command.

import { ApiError, post, sentence } from "./api.js";
import { PENDING_TEXTS } from "./command_progress.js";
import { h, show } from "./dom.js";
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
  #asked = null;

  constructor(on) {
    this.on = on;
    this.element = h("dialog", { class: "confirm", "aria-labelledby": "confirm-title" });
    this.element.addEventListener("close", () => {
      this.#asked = null;
      this.element.replaceChildren();
    });
  }

  /** Open the dialog: `spec` of the catalogue, `body` of the request, `given` are the parameters as text. */
  ask(spec, body, given, summary, lock) {
    const { device, command: name } = body;
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
    const asked = {
      command,
      body,
      no,
      yes,
      outcome,
      label: `Yes, ${words(name)} ${device}${again}`,
      earlier: earlier.map((one) => ({ command: one, element: h("p", { class: "problem" }, warning(one)) })),
      sending: false,
      lost: false,
      said: "",
    };
    yes.addEventListener("click", () => this.#give(asked));
    show(
      this.element,
      h("h2", { id: "confirm-title" }, `${capital(words(name))} ${device}?`),
      h(
        "div",
        { class: "earlier", role: "alert" },
        asked.earlier.map((one) => one.element),
      ),
      h(
        "ul",
        {},
        consequences(spec, summary, device, given, body.ttl).map((text) => h("li", {}, text)),
      ),
      outcome,
      h("div", { class: "buttons" }, no, yes),
    );
    this.#asked = asked;
    this.#draw();
    this.element.showModal();
    no.focus();
  }

  /** Update the `state` of a command, or the `news` of a query about it. */
  update(command) {
    const asked = this.#asked;
    if (!asked) return;
    for (const one of asked.earlier) {
      if (one.command.id === command.id) one.element.textContent = warning({ ...one.command, ...command });
    }
    if (asked.command.id !== command.id) return;
    asked.command = command;
    this.#draw();
  }

  /** Close the dialog. */
  close() {
    if (this.element.open) this.element.close();
  }

  async #give(asked) {
    const { command, body } = asked;
    asked.sending = true;
    this.#draw();
    command.at ??= now();
    // Stored before it is sent: it may arrive even if the page is closed.
    addPending(command);
    try {
      const { command: record } = await post("commands", { ...body, id: command.id });
      removePending(command.id);
      this.#leave(asked);
      this.on.given(command, record ?? null);
    } catch (error) {
      asked.sending = false;
      if (!isLost(error) && !asked.lost) {
        removePending(command.id);
        this.#leave(asked);
        this.on.refused(sentence(error));
        return;
      }
      asked.lost = true;
      asked.said = error instanceof ApiError && error.status === 0 ? "" : sentence(error);
      this.#draw();
      this.on.pending(command);
    }
  }

  #leave(asked) {
    if (this.#asked === asked) this.close();
  }

  #draw() {
    const asked = this.#asked;
    if (!asked) return;
    const { command, no, yes, sending, lost } = asked;
    const known = lost && command.state !== null;
    no.textContent = sending || lost ? "Close" : "No, do nothing";
    yes.textContent = sending ? "Sending…" : lost ? "Send the same command again" : asked.label;
    yes.disabled = sending;
    yes.hidden = known;
    const parts = known ? outcomeOf(command) : lost ? doubts(asked) : [];
    const text = h("div", {}, parts).textContent;
    // Announced once by screen readers.
    if (asked.outcome.textContent !== text) show(asked.outcome, parts);
  }
}

/** Whether a command may have arrived despite an error. */
function isLost(error) {
  return !(error instanceof ApiError) || error.status < 400 || error.status >= 500;
}

function outcomeOf({ state }) {
  return [
    h("p", {}, "The answer was lost, but the command has been given. It is ", stateChip(state), "."),
    h("p", { class: "hint" }, STATES[state]?.text ?? ""),
  ];
}

function doubts({ command, said }) {
  return [
    h("p", { class: "problem" }, "The answer was lost: the command may have been given."),
    said ? h("p", { class: "hint" }, said) : null,
    h("p", {}, PENDING_TEXTS[command.news] ?? PENDING_TEXTS.asking),
    h(
      "p",
      { class: "hint" },
      `To send it again does no harm: it is the same command, ${command.id}, and the lock gets it once at most.`,
    ),
  ];
}

/** The text about an earlier command without a response. */
function warning(command) {
  const what = `${words(command.command)} of ${stamp(command.at)}`;
  if (command.state || command.pending === false)
    return `The ${what} has been given. ${command.state ? `It is ${words(command.state)}.` : ""}`;
  const news = PENDING_TEXTS[command.news] ?? "";
  return `The ${what} may have been given: there was no answer to it. ${news} What you give now comes on top of it.`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Describe the effects of a command. */
function consequences(command, summary, device, given, wait) {
  const opens = /unlock|unseal/.test(command.name);
  return [
    whereabouts(summary, device),
    given.length ? `With ${given.join(", ")}.` : null,
    command.physical
      ? `This physically ${opens ? "opens" : "moves"} the lock. It is written to the lock at most once; when it can't be known whether the lock got it, it ends as uncertain and nothing is written again.`
      : "This doesn't move the lock. It may be written again when the lock doesn't answer.",
    FORM_WARNINGS[provenance(command)],
    summary?.online
      ? `The lock is connected, so it is written at once. Should it fall asleep before that, the command waits for it, at most ${span(wait)}.`
      : `The lock is not connected. The command waits for it to come, at most ${span(wait)}; then it ends as expired.`,
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
    seen ? `last seen ${ago(seen)}, ${dated(seen)}` : "never seen",
    where
      ? `at ${where}${summary.position_time && summary.position_time !== summary.seen ? ` (position ${ago(moment(summary.position_time))})` : ""}`
      : "place unknown",
  ];
  return `${parts.join(", ")}.`;
}
