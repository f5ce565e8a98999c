// A command that was given to many locks: how many are in each state, and what went wrong.

import { errorText, get, post } from "./api.js";
import { h, setChildren } from "./dom.js";
import { hasEnded } from "./event_summary.js";
import { count, timeElement, words } from "./format.js";
import { deviceLink } from "./label.js";
import { bodyOf, forgetBody, removePendingBatch } from "./pending_batches.js";
import { stateChip } from "./timeline.js";

const POLL_MS = 2000;
/** Commands that succeeded. */
const GOOD = ["done", "confirmed"];

/** Open the view of the batch `id`. */
export function open({ live, labels, id }) {
  let batch = null;
  let timer = null;
  let closed = false;
  const title = h("h1", { tabindex: -1 }, "A command for many locks");
  const about = h("p", { class: "hint" });
  const bar = h("progress", { class: "batch-bar", max: 1, value: 0, "aria-label": "Commands that have ended" });
  const states = h("ul", { class: "batch-states", "aria-live": "polite" });
  const news = h("div", { role: "status" });
  const problems = h("tbody", {});
  const table = h(
    "table",
    { class: "commands", hidden: true },
    h("caption", {}, "Not carried out, or not known to be"),
    h("thead", {}, h("tr", {}, ["Lock", "State", "Reason"].map((text) => h("th", { scope: "col" }, text)))),
    problems,
  );
  const again = h("button", { type: "button", class: "button primary", hidden: true, on: { click: () => repeat() } }, "Give it to the rest");
  const list = h("a", { href: `#/commands?batch=${encodeURIComponent(id)}` }, "All commands of it");
  const element = h("div", { class: "view view-batch" }, title, about, bar, states, news, again, h("p", {}, list), table);

  const load = async () => {
    clearTimeout(timer);
    try {
      batch = await get(`batches/${encodeURIComponent(id)}`);
      removePendingBatch(id);
      draw();
    } catch (error) {
      const text =
        error.status === 404
          ? "The gateway knows no such command. If its answer was lost, most likely it was not given."
          : errorText(error);
      setChildren(news, h("p", { class: "problem" }, text));
    }
    if (!closed && !isOver(batch)) timer = setTimeout(load, POLL_MS);
  };
  const repeat = async () => {
    again.disabled = true;
    try {
      batch = await post("batches", bodyOf(id));
    } catch (error) {
      setChildren(news, h("p", { class: "problem" }, errorText(error)));
    }
    again.disabled = false;
    load();
  };
  const draw = () => {
    const ended = Object.entries(batch.states).reduce((sum, [state, number]) => sum + (hasEnded(state) ? number : 0), 0);
    title.textContent = `${capital(words(batch.command))}: ${count(batch.count)} ${batch.count === 1 ? "lock" : "locks"}`;
    setChildren(about, "Given by ", batch.issued_by, " ", timeElement(batch.created_at), `, batch ${batch.id}`);
    bar.max = batch.count;
    bar.value = ended;
    const chips = Object.entries(batch.states).map(([state, number]) => item(number, stateChip(state), state));
    if (batch.unrecorded) chips.push(item(batch.unrecorded, batch.is_being_given ? "to be given" : "not given", "unrecorded"));
    if (batch.left_out.length) chips.push(item(batch.left_out.length, "left out", "left_out"));
    const shown = h("ul", {}, chips).textContent;
    if (states.textContent !== shown) setChildren(states, chips);
    setChildren(news, newsOf(batch).map((text) => h("p", { class: batch.unrecorded && !batch.is_being_given ? "problem" : "" }, text)));
    again.hidden = !(batch.unrecorded && !batch.is_being_given && bodyOf(id));
    if (isOver(batch)) forgetBody(id);
    const rows = [
      ...batch.problems.map((one) => row(one.device, one.state ? stateChip(one.state) : "not given", one.reason)),
      ...batch.left_out.map((one) => row(one.device, "left out", one.message)),
    ];
    setChildren(problems, rows);
    table.hidden = rows.length === 0;
  };
  const row = (device, state, reason) =>
    h(
      "tr",
      {},
      h("td", {}, deviceLink(device, labels.of(device))),
      h("td", {}, state),
      h("td", { class: "event-summary" }, reason ?? ""),
    );
  const onEvent = (event) => {
    if (event.detail.kind === "command" && event.detail.data?.batch === id && hasEnded(event.detail.data.state) && isOver(batch)) load();
  };
  const renamed = () => labels.rename(problems);
  live.addEventListener("event", onEvent);
  labels.addEventListener("change", renamed);
  labels.load();
  return {
    element,
    title: "A command for many locks",
    subscription: { kind: ["command"] },
    connected: () => load(),
    opened: () => load(),
    close: () => {
      closed = true;
      clearTimeout(timer);
      live.removeEventListener("event", onEvent);
      labels.removeEventListener("change", renamed);
    },
  };
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const item = (number, what, state) => h("li", { "data-state": state }, h("strong", {}, count(number)), " ", what);

/** Whether nothing is expected to change any more, unless somebody does something. */
function isOver(batch) {
  if (!batch) return false;
  return batch.unrecorded === 0 && Object.keys(batch.states).every(hasEnded);
}

function newsOf(batch) {
  if (batch.unrecorded && !batch.is_being_given)
    return [
      `The gateway has stopped giving it: ${count(batch.unrecorded)} locks did not get the command. Giving it to the rest does no harm: no lock gets it twice.`,
    ];
  if (batch.unrecorded) return [`The gateway gives the commands, 20 a second; ${count(batch.unrecorded)} are left.`];
  if (!isOver(batch)) return ["All have been given. Locks that are away get it when they connect."];
  return Object.keys(batch.states).every((state) => GOOD.includes(state)) ? ["All have carried it out."] : ["All have ended."];
}
