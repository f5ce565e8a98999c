// Recent orders: what was asked of which lock, by whom, and what became of it.

import { get, sentence } from "./api.js";
import { h, paced, show } from "./dom.js";
import { known, moment, timeElement, words } from "./format.js";
import { STATES, said } from "./gist.js";
import { formChip, stateChip, stepItem, stepsOf } from "./timeline.js";

const PAGE = 100;
const MOST = 1000;
const TIMES = { 0: "not", 1: "once", 2: "twice" };

/** Open the view; `id` is an order to show at once. */
export function open({ live, id, memory }) {
  memory.state ??= "";
  memory.device ??= "";
  const orders = new Map();
  const details = new Map();
  let next = null;
  let problem = "";
  let loaded = false;
  let generation = 0;
  const opened = new Set(id ? [id] : []);

  const device = h("input", {
    type: "search",
    class: "search",
    placeholder: "device id or IMEI",
    "aria-label": "Only orders of this device",
    value: memory.device,
    autocomplete: "off",
    spellcheck: "false",
    "data-search": true,
    on: { change: () => choose() },
  });
  const state = h(
    "select",
    { id: "order-state", on: { change: () => choose() } },
    h("option", { value: "" }, "any state"),
    Object.keys(STATES).map((name) => h("option", { value: name }, words(name))),
  );
  state.value = memory.state;
  const body = h("tbody", {});
  const table = h(
    "table",
    { class: "orders" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Asked for", "Device", "Order", "State", "Why, and what the lock said", "By", ""].map((text) =>
          h("th", { scope: "col" }, text || h("span", { class: "unseen" }, "Steps")),
        ),
      ),
    ),
    body,
  );
  const empty = h("p", { class: "empty" }, "Loading…");
  const more = h(
    "button",
    { type: "button", class: "button", hidden: true, on: { click: () => load(next) } },
    "Older",
  );
  const element = h(
    "div",
    { class: "view view-orders" },
    h("h1", { class: "unseen", tabindex: -1 }, "Orders"),
    h(
      "section",
      { class: "filterbar", "aria-label": "Which orders" },
      h(
        "div",
        { class: "tools" },
        device,
        h("label", { class: "field-inline", for: "order-state" }, "state "),
        state,
      ),
    ),
    empty,
    table,
    more,
  );

  const choose = () => {
    memory.device = device.value;
    memory.state = state.value;
    orders.clear();
    loaded = false;
    load();
  };
  const load = async (cursor = null) => {
    const mine = (generation += 1);
    try {
      const [page] = await Promise.all([
        get("orders", { device: memory.device.trim(), state: memory.state, limit: PAGE, cursor }),
        ...[...opened].map((one) => loadOne(one)),
      ]);
      if (mine !== generation) return;
      for (const order of page.orders) orders.set(order.id, order);
      if (cursor || !loaded) next = orders.size < MOST ? page.next : null;
      problem = "";
      loaded = true;
    } catch (error) {
      if (mine !== generation) return;
      problem = sentence(error);
    }
    draw();
  };
  const loadOne = async (one) => {
    try {
      const { order } = await get(`orders/${encodeURIComponent(one)}`);
      details.set(one, order);
      if (one === id) orders.set(one, order);
    } catch (error) {
      details.set(one, { problem: error.status === 404 ? "Its record is no longer kept." : sentence(error) });
    }
  };
  const toggle = async (one) => {
    if (!opened.delete(one)) {
      opened.add(one);
      await loadOne(one);
    }
    draw();
    body.querySelector(`button[data-order="${CSS.escape(one)}"]`)?.focus();
  };
  const draw = () => {
    const list = [...orders.values()].sort(
      (a, b) => (moment(b.created_at ?? b.time) ?? 0) - (moment(a.created_at ?? a.time) ?? 0),
    );
    show(
      body,
      list.flatMap((order) => rows(order, opened.has(order.id), details.get(order.id), toggle)),
    );
    table.hidden = list.length === 0;
    empty.hidden = list.length > 0 && !problem;
    empty.textContent = problem || (loaded ? "No order like that has been given lately." : "Loading…");
    more.hidden = !next;
  };
  const later = paced(draw, 250);
  const heard = (event) => {
    const { kind, data, device: about, received_at: time } = event.detail;
    if (kind !== "command" || !data?.id) return;
    const ours =
      (!memory.device.trim() || memory.device.trim() === about) &&
      (!memory.state || memory.state === data.state);
    if (ours) orders.set(data.id, { ...data, device: data.device ?? about, time });
    else orders.delete(data.id);
    if (details.has(data.id)) details.set(data.id, data);
    if (orders.size > MOST) orders.delete(orders.keys().next().value);
    later();
  };
  const skipped = paced(() => load(), 5000);
  live.addEventListener("event", heard);
  live.addEventListener("skipped", skipped);
  return {
    element,
    title: "Orders",
    want: { kind: ["command"] },
    connected: () => load(),
    close: () => {
      generation += 1;
      later.stop();
      skipped.stop();
      live.removeEventListener("skipped", skipped);
      live.removeEventListener("event", heard);
    },
  };
}

function rows(order, isOpen, record, toggle) {
  const button = h(
    "button",
    {
      type: "button",
      class: "button small",
      "aria-expanded": String(isOpen),
      "data-order": order.id,
      on: { click: () => toggle(order.id) },
    },
    isOpen ? "Hide" : "Steps",
    h("span", { class: "unseen" }, ` of order ${order.id}`),
  );
  const row = h(
    "tr",
    {},
    h("td", {}, timeElement(order.created_at ?? order.time)),
    h(
      "td",
      {},
      order.device ? h("a", { href: `#/device/${encodeURIComponent(order.device)}` }, order.device) : "—",
      order.peripheral ? h("small", {}, ` sub-lock ${order.peripheral}`) : null,
    ),
    h(
      "td",
      {},
      h("strong", {}, words(order.command ?? "can't be read")),
      formChip(order),
    ),
    h("td", {}, stateChip(order.state)),
    h("td", { class: "gist" }, [order.reason, said(order.answer)].filter(Boolean).join("; ")),
    h("td", {}, order.issued_by ?? "—", order.key ? h("small", {}, ` key ${order.key}`) : null),
    h("td", {}, button),
  );
  return isOpen
    ? [row, h("tr", { class: "opened" }, h("td", { colspan: 7 }, record ? steps(record) : "Loading…"))]
    : [row];
}

/** The steps of an order out of its record. */
function steps(record) {
  if (record.problem) return h("p", { class: "problem" }, record.problem);
  const list = stepsOf(record);
  const facts = [
    ["Order", record.id],
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
    { class: "order-steps" },
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
