// Recent commands with lock, sender and state.

import { get, errorText } from "./api.js";
import { h, throttle, setChildren } from "./dom.js";
import { known, moment, timeElement, words } from "./format.js";
import { STATES, answerText } from "./event_summary.js";
import { withKeypad } from "./keypad.js";
import { deviceLink } from "./label.js";
import { Cancelling } from "./cancel.js";
import { PagedHistory } from "./paged_history.js";
import { formChip, stateChip, stepItem, stepsOf } from "./timeline.js";

const PAGE = 100;
const MAX_SHOWN = 1000;
const TIMES = { 0: "not", 1: "once", 2: "twice" };

/** Open the view; `id` is a command to expand. `query` has the selection, `storeQuery` stores it in the URL. */
export function open({ live, rights, labels, id, query, storeQuery }) {
  let chosen = fromQuery(query);
  const commands = new Map();
  const details = new Map();
  const opened = new Set(id ? [id] : []);
  const cancelling = new Cancelling(rights, (one) => labels.of(one));

  const device = h("input", {
    type: "search",
    class: "search",
    placeholder: "name, device id or IMEI",
    "aria-label": "Only commands of this lock: its name, plate, device id or IMEI",
    value: chosen.device,
    autocomplete: "off",
    spellcheck: "false",
    "data-search": true,
    on: { change: () => choose() },
  });
  const state = h(
    "select",
    { id: "command-state", on: { change: () => choose() } },
    h("option", { value: "" }, "any state"),
    Object.keys(STATES).map((name) => h("option", { value: name }, words(name))),
  );
  state.value = chosen.state;
  const ofBatch = h("p", { hidden: true });
  const body = h("tbody", {});
  const table = h(
    "table",
    { class: "commands" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Given", "Device", "Command", "State", "Reason and answer", "By", ""].map((text) =>
          h("th", { scope: "col" }, text || h("span", { class: "unseen" }, "Steps")),
        ),
      ),
    ),
    body,
  );
  const empty = h("p", { class: "empty" }, "Loading…");
  const pages = new PagedHistory({
    path: () => "commands",
    params: () => ({ ...chosen, limit: PAGE }),
    wanted: PAGE,
    take: (page, begins) => take(page, begins),
    changed: () => draw(),
  });
  const element = h(
    "div",
    { class: "view view-commands" },
    h("h1", { class: "unseen", tabindex: -1 }, "Commands"),
    h(
      "section",
      { class: "filterbar", "aria-label": "Which commands" },
      h(
        "div",
        { class: "tools" },
        withKeypad(device, { numeric: false }),
        h("label", { class: "field-inline", for: "command-state" }, "state "),
        state,
      ),
      ofBatch,
    ),
    empty,
    table,
    pages.element,
    cancelling.element,
  );

  const showBatch = () => {
    ofBatch.hidden = !chosen.batch;
    const all = { type: "button", class: "button small", on: { click: () => choose("") } };
    setChildren(
      ofBatch,
      "Only commands of ",
      h("a", { href: `#/batch/${encodeURIComponent(chosen.batch)}` }, `batch ${chosen.batch}`),
      " ",
      h("button", all, "Show all"),
    );
  };
  const choose = (batch = chosen.batch) => {
    chosen = { device: labels.resolve(device.value.trim()), state: state.value, batch };
    device.value = chosen.device;
    showBatch();
    storeQuery(toQuery(chosen));
    commands.clear();
    pages.reset();
    load();
  };
  const load = () => Promise.all([pages.newest(), ...[...opened].map((one) => loadOne(one).then(draw))]);
  const take = (page, begins) => {
    const joins = begins && pages.loaded && page.commands.some((command) => commands.has(command.id));
    if (begins && pages.loaded && !joins && page.commands.length) {
      // More commands were given meanwhile than one page has.
      commands.clear();
      pages.full = "";
    }
    for (const command of page.commands) commands.set(command.id, command);
    if (commands.size >= MAX_SHOWN) pages.full = `The last ${MAX_SHOWN} are shown.`;
    return joins ? null : page.commands.length;
  };
  const loadOne = async (one) => {
    try {
      const { command } = await get(`commands/${encodeURIComponent(one)}`);
      details.set(one, command);
    } catch (error) {
      details.set(one, { problem: error.status === 404 ? "Its record is no longer kept." : errorText(error) });
    }
  };
  const toggle = async (one) => {
    if (!opened.delete(one)) {
      opened.add(one);
      await loadOne(one);
    }
    draw();
    body.querySelector(`button[data-command="${CSS.escape(one)}"]`)?.focus();
  };
  const draw = () => {
    const asked = details.get(id);
    if (asked && !asked.problem && !commands.has(id)) commands.set(id, asked);
    const list = [...commands.values()].sort(
      (a, b) => (moment(b.created_at ?? b.time) ?? 0) - (moment(a.created_at ?? a.time) ?? 0),
    );
    setChildren(
      body,
      list.flatMap((command) =>
        rows(command, opened.has(command.id), details.get(command.id), { labels, toggle, cancelling }),
      ),
    );
    table.hidden = list.length === 0;
    empty.hidden = list.length > 0 && !pages.problem;
    empty.textContent = pages.problem || (pages.ended ? "There are no such commands." : "Loading…");
  };
  const later = throttle(draw, 250);
  const onEvent = (event) => {
    const { kind, data, device: about, received_at: time } = event.detail;
    if (kind !== "command" || !data?.id) return;
    // A listed command may have been found by the IMEI of the lock.
    const named = !chosen.device || [about, data.peripheral].includes(chosen.device) || commands.has(data.id);
    const isOfBatch = !chosen.batch || data.batch === chosen.batch;
    if (named && isOfBatch && (!chosen.state || chosen.state === data.state))
      commands.set(data.id, { ...data, device: data.device ?? about, time });
    else commands.delete(data.id);
    if (details.has(data.id)) details.set(data.id, data);
    cancelling.update(data);
    if (commands.size > MAX_SHOWN) {
      commands.delete(commands.keys().next().value);
      pages.full = `The last ${MAX_SHOWN} are shown.`;
    }
    later();
  };
  const skipped = throttle(() => load(), 5000);
  const renamed = throttle(() => labels.rename(body), 250);
  showBatch();
  live.addEventListener("event", onEvent);
  live.addEventListener("skipped", skipped);
  labels.addEventListener("change", renamed);
  return {
    element,
    title: "Commands",
    subscription: { kind: ["command"] },
    connected: (restarted) => Promise.all([load(), labels.load(restarted)]),
    restart: () => {
      commands.clear();
      pages.reset();
      load();
    },
    chosen: (asked) => {
      const { device: name, state: which, batch } = fromQuery(asked);
      device.value = name;
      state.value = which;
      choose(batch);
    },
    close: () => {
      pages.stop();
      later.stop();
      skipped.stop();
      renamed.stop();
      labels.removeEventListener("change", renamed);
      cancelling.close();
      live.removeEventListener("skipped", skipped);
      live.removeEventListener("event", onEvent);
    },
  };
}

/** The query of a URL; invalid values are ignored. */
function fromQuery(query) {
  const state = query.get("state") ?? "";
  const batch = query.get("batch") ?? "";
  return {
    device: (query.get("device") ?? "").trim(),
    state: Object.hasOwn(STATES, state) ? state : "",
    batch: /^[\w-]{1,40}$/.test(batch) ? batch : "",
  };
}

function toQuery(chosen) {
  return new URLSearchParams(Object.entries(chosen).filter(([, value]) => value));
}

function rows(command, isOpen, record, { labels, toggle, cancelling }) {
  const button = h(
    "button",
    {
      type: "button",
      class: "button small",
      "aria-expanded": String(isOpen),
      "data-command": command.id,
      on: { click: () => toggle(command.id) },
    },
    isOpen ? "Hide" : "Steps",
    h("span", { class: "unseen" }, ` of command ${command.id}`),
  );
  const row = h(
    "tr",
    {},
    h("td", {}, timeElement(command.created_at ?? command.time)),
    h(
      "td",
      {},
      command.device ? deviceLink(command.device, labels.of(command.device)) : "—",
      command.peripheral ? h("small", {}, ` sub-lock ${command.peripheral}`) : null,
    ),
    h(
      "td",
      {},
      h("strong", {}, words(command.command ?? "can't be read")),
      formChip(command),
    ),
    h("td", {}, stateChip(command.state)),
    h("td", { class: "event-summary" }, [command.reason, answerText(command.answer)].filter(Boolean).join("; ")),
    h("td", {}, command.issued_by ?? "—", command.key ? h("small", {}, ` key ${command.key}`) : null),
    h("td", { class: "row-buttons" }, button, cancelling.button(command)),
  );
  return isOpen
    ? [row, h("tr", { class: "opened" }, h("td", { colspan: 7 }, record ? steps(record) : "Loading…"))]
    : [row];
}

/** The steps in the record of a command. */
function steps(record) {
  if (record.problem) return h("p", { class: "problem" }, record.problem);
  const list = stepsOf(record);
  const facts = [
    ["Command", record.id],
    ["Parameters", Object.keys(record.params ?? {}).length ? JSON.stringify(record.params) : "none"],
    ["Profile", known(record.profile)],
    [
      "Written",
      `${TIMES[record.attempts] ?? `${record.attempts} times`}${record.physical ? "; it moves the lock" : ""}`,
    ],
    ["Evidence", record.evidence ? JSON.stringify(record.evidence) : "—"],
  ];
  return h(
    "div",
    { class: "command-steps" },
    h(
      "ol",
      { class: "steps" },
      list.map((step) => stepItem(step, list[0].at)),
    ),
    h(
      "dl",
      { class: "details" },
      facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
    ),
  );
}
